//! Records and frames that encoders of others wrote: what is in them is what ffprobe says of the same files.

use proptest::prelude::*;

use super::*;

/// libx264, Main, 318x178, 30000/1001.
const AVCC: &str = "014d400dffe10017674d400deca0a0cf511808800001f480007530078a14cb01000468ce0fc8";
/// libx264, High 4:2:2 Intra of 10 bits.
const AVCC_422: &str = "017a000dffe10018677a000db6cb40a0cf51f808800001f480007530078a155001000468ce0fc8fefafa00";
/// libx264, interlaced, 720x564 at 25 frames.
const AVCC_FIELDS: &str = "014d401effe10019674d401ef405a127e4c044000003000400000300c87c50aa8001000468de0fc8";
/// libx265, Main, 318x178, 30000/1001.
const HVCC: &str = "0101600000009000000000003cf000fcfdf8f800000f03a00001001840010c01ffff0160000003009000000300000300\
    3c959409a10001002942010101600000030090000003000003003ca00a080c1d446595952930bc05a02000007d20000ea601a2000100064401\
    c073c189";
/// VVenC, Main 10, 318x178.
const VVCC: &str = "\
    ff00655f010220800000014000b80000028f000100ee007900ab02208000008028202e7521a801cdffeb084d958c10209c004c40410410\
    8184210b110859210b5085e8f56a4bc926a4b2445a88bc449a88914911264889351962210b24216a10bc2126a109149084992109752421\
    21222109144421262210975110848a32109319084ba8c8428105842080c442064883520133041041610020b10080840804054204020348\
    4080405881008088201016410080908040c80808840405908080910103408092040e08188042c81022102059081024408341024820e106\
    408b4209210e21a12e472a041610020b1008084080405420402043304671400000fa40001d4c0620900001000b0081000014101722241f\
    41";
/// SVT-AV1, Main, 318x178.
const AV1C: &str = "81000c000a0b000000043cf6c402f80040";
/// The first frame of it, cut short.
const AV1_FRAME: &str = "0a0b000000043cf6c4fbf90040320a1400218820000082f3ef";
const VPCC: &str = "000b820202020000";
const VP9_FRAME: &str = "824983420013d00b160638241c184a000c805fc9f7";
const VP8_FRAME: &str = "f062009d012a3e01b200000708858588";
/// ffmpeg's encoder: LC, 48 kHz, stereo, and an extension that says that there is none.
const ASC: &str = "119056e500";
const DOPS: &str = "000201380000bb80000000";
const MP3_FRAME: &str = "fffb9464000002f05c53a504600200000d20a000";
const DAC3: &str = "101140";
const AC3_FRAME: &str = "0b778220144043e106f46370c0c0c218";
const DEC3: &str = "0600200400";
const EAC3_FRAME: &str = "0b77017f3487c000206000001c808c06";
const DFLA: &str = "000000008000002212001200001372002ea10bb803700000bb803e705dcbdc81b256cb23df59c7385f36";

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn read(codec: Codec, record: &str) -> Description {
    Description::read(codec, &bytes(record), None).unwrap()
}

fn in_frame(codec: Codec, frame: &str) -> Description {
    Description::read(codec, &[], Some(&bytes(frame))).unwrap()
}

/// The frame that a record's parameter sets make, as they stand before a picture.
fn frame_with(units: &[&[u8]]) -> Vec<u8> {
    units.iter().flat_map(|unit| [&u32::try_from(unit.len()).unwrap().to_be_bytes()[..], unit].concat()).collect()
}

#[test]
fn pictures_have_the_size_and_the_rate_that_their_encoder_was_given() {
    let ntsc = FrameRate::new(30_000, 1001);
    let rate = |description: &Description| description.frame_rate.map(FrameRate::as_f64);
    for (codec, record, string) in [
        (Codec::H264, AVCC, "avc1.4d400d"),
        (Codec::H264, AVCC_422, "avc1.7a000d"),
        (Codec::H265, HVCC, "hvc1.1.6.L60.90"),
    ] {
        let description = read(codec, record);
        assert_eq!(description.size, Some((318, 178)), "{codec}");
        assert_eq!(rate(&description), ntsc.map(FrameRate::as_f64), "{codec}");
        assert_eq!(description.codec_string, string);
    }
    let fields = read(Codec::H264, AVCC_FIELDS);
    assert_eq!((fields.size, rate(&fields)), (Some((720, 564)), Some(25.0)));
    let vvc = read(Codec::H266, VVCC);
    assert_eq!((vvc.size, &*vvc.codec_string), (Some((318, 178)), "vvc1.1.L32.CQA"));
    let av1 = read(Codec::Av1, AV1C);
    assert_eq!((av1.size, &*av1.codec_string), (Some((318, 178)), "av01.0.00M.08"));
    let vp9 = Description::read(Codec::Vp9, &bytes(VPCC), Some(&bytes(VP9_FRAME))).unwrap();
    assert_eq!((vp9.size, &*vp9.codec_string), (Some((318, 178)), "vp09.00.11.08"));
}

#[test]
fn a_frame_tells_what_a_record_would() {
    for (codec, frame, size, string) in [
        (Codec::Av1, AV1_FRAME, (318, 178), "av01.0.00M.08"),
        (Codec::Vp9, VP9_FRAME, (318, 178), "vp09.00.11.08"),
        (Codec::Vp8, VP8_FRAME, (318, 178), "vp08.00.11.08"),
    ] {
        let description = in_frame(codec, frame);
        assert_eq!((description.size, &*description.codec_string), (Some(size), string));
    }
    assert_eq!(record_of_frame(Codec::Vp9, &bytes(VP9_FRAME)).unwrap(), bytes(VPCC));
    assert_eq!(record_of_frame(Codec::Av1, &bytes(AV1_FRAME)).unwrap()[..6], bytes("81000c000a0b"));
    assert_eq!(record_of_frame(Codec::Ac3, &bytes(AC3_FRAME)).unwrap(), bytes(DAC3));
    assert_eq!(record_of_frame(Codec::Eac3, &bytes(EAC3_FRAME)).unwrap(), bytes(DEC3));
}

#[test]
fn sound_has_the_rate_and_the_channels_that_its_encoder_was_given() {
    let opus = opus::OpusHead::read_box(&bytes(DOPS)).unwrap().to_bytes();
    let flac = flac::record_of_box(&bytes(DFLA)).unwrap();
    for (codec, record, frame, channels, rate, string) in [
        (Codec::Aac, &*bytes(ASC), "", 2, 48_000, "mp4a.40.2"),
        (Codec::Opus, &opus, "", 2, 48_000, "opus"),
        (Codec::Flac, &flac, "", 2, 48_000, "fLaC"),
        (Codec::Ac3, &bytes(DAC3), "", 2, 48_000, "ac-3"),
        (Codec::Eac3, &bytes(DEC3), "", 2, 48_000, "ec-3"),
        (Codec::Ac3, &[], AC3_FRAME, 2, 48_000, "ac-3"),
        (Codec::Eac3, &[], EAC3_FRAME, 2, 48_000, "ec-3"),
        (Codec::Mp3, &[], MP3_FRAME, 2, 48_000, "mp4a.6B"),
        (Codec::G711A, &[], "", 1, 8_000, "alaw"),
    ] {
        let frame = bytes(frame);
        let description = Description::read(codec, record, Some(&*frame).filter(|frame| !frame.is_empty())).unwrap();
        let found = (description.channels, description.sample_rate, &*description.codec_string);
        assert_eq!(found, (Some(channels), Some(rate), string), "{codec}");
    }
    assert_eq!(opus::OpusHead::read(&opus).unwrap().to_box(), bytes(DOPS));
    assert_eq!(flac::box_of(&flac).unwrap(), bytes(DFLA));
    assert_eq!(flac::StreamInfo::read(&flac).unwrap().frame_samples, Some(4608));
}

#[test]
fn records_that_are_made_of_parameter_sets_are_those_that_ffmpeg_makes() {
    let record = bytes(AVCC);
    let sets = h264::Record::read(&record).unwrap();
    assert_eq!(h264::record_of(&sets.sps, &sets.pps).unwrap(), record);
    let frame = frame_with(&[&[9, 0xF0], sets.sps[0], sets.pps[0], sets.sps[0], &[0x65, 0x88]]);
    assert_eq!(record_of_frame(Codec::H264, &frame).unwrap(), record, "each set once");
    let record = bytes(AVCC_422);
    let sets = h264::Record::read(&record).unwrap();
    assert_eq!(h264::record_of(&sets.sps, &sets.pps).unwrap(), record);

    let record = bytes(HVCC);
    let sets = h265::Record::read(&record).unwrap();
    assert_eq!(sets.vps.len() + sets.sps.len() + sets.pps.len(), 3);
    let made = h265::record_of(&sets.vps, &sets.sps, &sets.pps).unwrap();
    // ffmpeg marks the arrays as open for further sets where it was told so.
    let closed =
        |record: &[u8]| h265::Record::read(record).map(|record| (record.profile, record.length_bytes)).unwrap();
    assert_eq!(closed(&made), closed(&record));
    assert_eq!(made[13..22], record[13..22]);
    assert_eq!(h265::Record::read(&made).unwrap(), sets);

    let mut record = bytes(VVCC);
    // ffmpeg says that the frame rate is constant, which nobody told it.
    record[2] &= !0x0C;
    let sets = h266::Record::read(&record).unwrap();
    let made = h266::record_of(&sets.vps, &sets.sps, &sets.pps).unwrap();
    assert_eq!(made, record);
    let frame = frame_with(&[sets.sps[0], sets.pps[0], &[0, 7 << 3 | 1, 0x80]]);
    assert_eq!(record_of_frame(Codec::H266, &frame).unwrap(), record);
}

#[test]
fn a_frame_at_which_a_decoder_can_start_is_told_from_others() {
    let frame = |units: &[&[u8]]| frame_with(units);
    for (codec, key, delta) in [
        (Codec::H264, frame(&[&[6, 5], &[0x65, 0x88]]), frame(&[&[6, 5], &[0x41, 0x9A]])),
        (Codec::H265, frame(&[&[0x4E, 1], &[19 << 1, 1]]), frame(&[&[0x4E, 1], &[1 << 1, 1]])),
        (Codec::H265, frame(&[&[21 << 1, 1]]), frame(&[&[32 << 1, 1], &[0, 1]])),
        (Codec::H266, frame(&[&[0, 8 << 3 | 1]]), frame(&[&[0, 16 << 3 | 1], &[0, 1]])),
        (Codec::Av1, bytes(AV1_FRAME), bytes("3204301020")),
        (Codec::Vp8, bytes(VP8_FRAME), bytes("f162009d")),
        (Codec::Vp9, bytes(VP9_FRAME), bytes("8600409c")),
        // A frame that is shown again.
        (Codec::Vp9, bytes(VP9_FRAME), bytes("88")),
    ] {
        assert!(is_key(codec, &[], &key), "{codec}");
        assert!(!is_key(codec, &[], &delta), "{codec}");
        assert!(!is_key(codec, &[], &[]), "{codec}");
    }
    assert!(is_key(Codec::H264, &[1, 100, 0, 30, 0xFD], &[0, 2, 0x65, 0x88]), "lengths of two bytes");
    assert!(is_key(Codec::Opus, &[], &[0xFC]));
}

#[test]
fn aac_says_its_channels_and_rates_in_many_ways() {
    use aac::AudioSpecificConfig as Asc;
    let read = |hex| Asc::read(&bytes(hex)).unwrap();
    // HE-AAC with the extension at the front, and behind what old decoders read; HE-AAC v2.
    let he = Asc { object_type: 2, core_rate: 24_000, sample_rate: 48_000, channels: 2, sbr: true, ps: false };
    assert_eq!(read("2b118800"), he);
    assert_eq!(read("131056e598"), he);
    assert_eq!(he.codec_string(), "mp4a.40.5");
    let v2 = read("eb098800");
    assert_eq!((v2.channels, v2.sample_rate, &*v2.codec_string()), (2, 48_000, "mp4a.40.29"));
    // A rate of its own, and channels from a program config element: a front pair, a centre, a low one.
    assert_eq!(read("17800bb81000").sample_rate, 6_000);
    let element = bits::tests::Written::default().number(5, 2).number(4, 3).number(4, 0).number(3, 0);
    let element = element.number(10, 0).number(4, 2).number(8, 0).number(2, 1).number(7, 0).number(3, 0);
    let element = element.number(5, 0x10).number(5, 0).number(4, 0).number(30, 0).bytes;
    assert_eq!(Asc::read(&element).unwrap().channels, 4);
    for wrong in ["", "11", "0190", "1700", "1f90"] {
        assert!(Asc::read(&bytes(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn nothing_is_made_up_where_nothing_is_said() {
    for codec in Codec::ALL {
        let described = Description::read(codec, &[], None);
        match codec {
            Codec::G711A | Codec::G711U => assert!(described.is_ok()),
            _ if has_record(codec) || codec == Codec::Mp3 => {
                assert_eq!(described, Err(CodecError::NoConfiguration(codec)));
            }
            _ => assert_eq!(described, Err(CodecError::Unsupported(codec))),
        }
    }
}

fn samples() -> Vec<(Codec, Vec<u8>)> {
    let opus = opus::OpusHead::read_box(&bytes(DOPS)).unwrap().to_bytes().to_vec();
    let flac = flac::record_of_box(&bytes(DFLA)).unwrap().to_vec();
    let samples = [
        (Codec::H264, AVCC),
        (Codec::H264, AVCC_422),
        (Codec::H264, AVCC_FIELDS),
        (Codec::H265, HVCC),
        (Codec::H266, VVCC),
        (Codec::Av1, AV1C),
        (Codec::Av1, AV1_FRAME),
        (Codec::Vp9, VP9_FRAME),
        (Codec::Vp8, VP8_FRAME),
        (Codec::Aac, ASC),
        (Codec::Mp3, MP3_FRAME),
        (Codec::Ac3, AC3_FRAME),
        (Codec::Eac3, EAC3_FRAME),
        (Codec::Eac3, DEC3),
    ];
    let samples = samples.map(|(codec, hex)| (codec, bytes(hex)));
    samples.into_iter().chain([(Codec::Opus, opus), (Codec::Flac, flac)]).collect()
}

/// A configuration record for each codec that MP4 has a sample entry for: with the size that none of them says.
pub(crate) fn records() -> Vec<(Codec, Bytes)> {
    let record = |codec, hex: &str| (codec, Bytes::from(bytes(hex)));
    let vp8 = record_of_frame(Codec::Vp8, &bytes(VP8_FRAME)).unwrap();
    let opus = opus::OpusHead::read_box(&bytes(DOPS)).unwrap().to_bytes();
    let flac = flac::record_of_box(&bytes(DFLA)).unwrap();
    let mut records = vec![(Codec::Vp8, vp8), (Codec::Opus, opus), (Codec::Flac, flac), (Codec::Mp3, Bytes::new())];
    records.extend(
        [(Codec::H264, AVCC), (Codec::H265, HVCC), (Codec::H266, VVCC), (Codec::Av1, AV1C)]
            .map(|(codec, hex)| record(codec, hex)),
    );
    records.extend(
        [(Codec::Vp9, VPCC), (Codec::Aac, ASC), (Codec::Ac3, DAC3), (Codec::Eac3, DEC3)]
            .map(|(codec, hex)| record(codec, hex)),
    );
    records
}

fn try_everything(codec: Codec, bytes: &[u8]) {
    let _ = Description::read(codec, bytes, None);
    let _ = Description::read(codec, bytes, Some(bytes));
    let _ = Description::read(codec, &[], Some(bytes));
    let _ = record_of_frame(codec, bytes);
    let _ = record_of_frame(codec, &frame_with(&[bytes]));
    let _ = is_key(codec, bytes, bytes);
    let _ = opus::OpusHead::read_box(bytes);
    let _ = flac::record_of_box(bytes);
}

proptest! {
    #[test]
    fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
        for codec in Codec::ALL {
            try_everything(codec, &bytes);
        }
        for unit in [&[0x67][..], &[0x42, 1], &[0, 0x79]] {
            let unit = [unit, &bytes].concat();
            let _ = (h264::Sps::read(&unit), h265::Sps::read(&unit), h266::Sps::read(&unit));
        }
    }

    #[test]
    fn what_is_changed_or_cut_in_a_record_does_no_harm(
        which in 0_usize..16,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end in any::<prop::sample::Index>(),
    ) {
        let (codec, mut record) = samples().swap_remove(which);
        for (at, value) in changes {
            let at = at.index(record.len());
            record[at] ^= value;
        }
        try_everything(codec, &record);
        try_everything(codec, &record[..end.index(record.len() + 1)]);
    }

    #[test]
    fn an_audio_specific_config_that_is_written_is_read(
        object_type in 1_u8..5, rate in 0_usize..13, channels in 1_u8..=8, odd_rate in 1_u32..1 << 24,
        extended in any::<(bool, bool, bool)>(),
    ) {
        let core_rate = if extended.0 { odd_rate } else { aac::SAMPLE_RATES[rate] };
        let sbr = extended.1 && !extended.0;
        let ps = sbr && extended.2;
        let sample_rate = if sbr { core_rate * 2 } else { core_rate };
        let channels = if ps { 2 } else { channels };
        let config = aac::AudioSpecificConfig { object_type, core_rate, sample_rate, channels, sbr, ps };
        prop_assert_eq!(aac::AudioSpecificConfig::read(&config.to_bytes().unwrap()), Ok(config));
    }

    #[test]
    fn an_opus_head_that_is_written_is_read(
        channels in 1_u8..=8, pre_skip in any::<u16>(), input_rate in any::<u32>(), gain in any::<i16>(),
        mapping in proptest::collection::vec(any::<u8>(), 10),
    ) {
        let family = u8::from(channels > 2);
        let mapping = if family == 0 { Box::default() } else { mapping[..usize::from(channels) + 2].into() };
        let head = opus::OpusHead { channels, pre_skip, input_rate, gain, family, mapping };
        prop_assert_eq!(opus::OpusHead::read(&head.to_bytes()), Ok(head.clone()));
        prop_assert_eq!(opus::OpusHead::read_box(&head.to_box()), Ok(head));
    }
}
