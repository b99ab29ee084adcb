//! Opus in MPEG-TS: the control header before each packet, and the channel configuration of the program map (the
//! mapping that Xiph.Org wrote down).

use bytes::{BufMut, Bytes, BytesMut};

/// What stands for the channels of `OpusHead` (RFC 7845, 5.1) in the program map; none where it would take more.
pub(super) fn channel_config(head: &[u8]) -> u8 {
    // Without a header there are one or two channels, which every decoder turns into two.
    let channels = head.get(9).copied().unwrap_or(2);
    let usual = |channels: u8| MAPPINGS.get(usize::from(channels)).copied().flatten();
    match (head.get(18).copied().unwrap_or(0), channels, usual(channels)) {
        (0, 1 | 2, _) => channels,
        (1, _, Some((streams, coupled, mapping)))
            if head.get(19..) == Some(&[&[streams, coupled], mapping].concat()) =>
        {
            channels
        }
        _ => 2,
    }
}

/// The `OpusHead` for a channel configuration; none if it has no usual one.
pub(super) fn head(config: u8) -> Option<Bytes> {
    // 0: two channels that are two languages.
    let channels = if config == 0 { 2 } else { config };
    let mut out = BytesMut::with_capacity(32);
    out.put_slice(b"OpusHead\x01");
    out.put_u8(channels);
    // Pre-skip: the stream was joined. Rate before coding: 48 kHz. Gain: none.
    out.put_u16_le(0);
    out.put_u32_le(48_000);
    out.put_u16_le(0);
    match (channels, MAPPINGS.get(usize::from(channels)).copied().flatten()) {
        (1 | 2, _) => out.put_u8(0),
        (_, Some((streams, coupled, mapping))) => {
            out.put_slice(&[1, streams, coupled]);
            out.put_slice(mapping);
        }
        _ => return None,
    }
    Some(out.freeze())
}

/// Streams, coupled streams and channel mapping by number of channels (RFC 7845, 5.1.1.2).
const MAPPINGS: [Option<(u8, u8, &[u8])>; 9] = [
    None,
    Some((1, 0, &[0])),
    Some((1, 1, &[0, 1])),
    Some((2, 1, &[0, 2, 1])),
    Some((2, 2, &[0, 1, 2, 3])),
    Some((3, 2, &[0, 4, 1, 2, 3])),
    Some((4, 2, &[0, 4, 1, 2, 3, 5])),
    Some((4, 3, &[0, 4, 1, 2, 3, 5, 6])),
    Some((5, 3, &[0, 6, 1, 2, 3, 4, 5, 7])),
];

/// Bytes of the control header before a packet.
pub(super) fn control_header_bytes(payload: usize) -> usize {
    2 + payload / 255 + 1
}

/// Writes the control header: no trims, no extension, the size.
pub(super) fn write_control_header(payload: usize, mut put: impl FnMut(&[u8])) {
    put(&[0x7F, 0xE0]);
    for _ in 0..payload / 255 {
        put(&[255]);
    }
    put(&[u8::try_from(payload % 255).unwrap_or(0)]);
}

/// Where the first packet behind a control header begins and ends; `None` if there is none.
pub(super) fn packet(bytes: &[u8]) -> Option<(usize, usize)> {
    let &[0x7F, flags] = bytes.first_chunk()? else { return None };
    if flags & 0xE0 != 0xE0 {
        return None;
    }
    let (mut at, mut size) = (2, 0_usize);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        size += usize::from(byte);
        if byte != 255 {
            break;
        }
    }
    // Trims at start and end, of two bytes each; then an extension behind its length.
    at += usize::from(flags >> 4 & 1) * 2 + usize::from(flags >> 3 & 1) * 2;
    if flags & 4 != 0 {
        at += usize::from(*bytes.get(at)?) + 1;
    }
    let end = at.checked_add(size)?;
    (size > 0 && end <= bytes.len()).then_some((at, end))
}

/// Samples at 48 kHz of a packet (RFC 6716, 3.1).
pub(super) fn samples(packet: &[u8]) -> u32 {
    let Some(toc) = packet.first() else { return 0 };
    let frame = match toc >> 3 {
        config @ 0..=11 => [480, 960, 1920, 2880].get(usize::from(config % 4)).copied().unwrap_or(960),
        config @ 12..=15 => 480 << (config % 2),
        config => 120 << (config % 4),
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1).copied().unwrap_or(1) & 0x3F),
    };
    // "The audio duration contained within a packet must not exceed 120 ms".
    (frame * frames).min(5760)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_headers_of_all_sizes_lead_to_their_packets() {
        for size in [1, 254, 255, 256, 510, 1275] {
            let mut bytes = Vec::new();
            write_control_header(size, |part| bytes.extend_from_slice(part));
            assert_eq!(bytes.len(), control_header_bytes(size));
            let start = bytes.len();
            bytes.resize(start + size, 7);
            assert_eq!(packet(&bytes), Some((start, start + size)));
            assert_eq!(packet(&bytes[..bytes.len() - 1]), None);
        }
        // Both trims and an extension of three bytes.
        assert_eq!(packet(&[0x7F, 0xFC, 1, 0, 9, 0, 9, 3, 1, 2, 3, 0xAA]), Some((11, 12)));
    }

    #[test]
    fn heads_come_back_from_their_channel_configurations() {
        for channels in 1..=8 {
            let head = head(channels).unwrap();
            assert_eq!((head[9], channel_config(&head)), (channels, channels));
        }
        assert_eq!(head(0).unwrap()[9], 2);
        assert_eq!(head(9), None);
        assert_eq!(channel_config(&[]), 2);
    }

    #[test]
    fn packets_last_as_long_as_their_first_bytes_say() {
        // CELT 20 ms; SILK 60 ms; hybrid 10 ms twice; CELT 2.5 ms six times; 63 frames of 60 ms, which can't be.
        for (packet, expected) in
            [(&[0xFC][..], 960), (&[0x18], 2880), (&[0x61], 960), (&[0x83, 6], 720), (&[0x1B, 63], 5760), (&[], 0)]
        {
            assert_eq!(samples(packet), expected, "{packet:?}");
        }
    }
}
