//! Languages: BCP 47 takes the two letters of ISO 639-1 where there are any, MPEG-TS always the three of ISO 639-2.

/// The three letters for a BCP 47 tag; none for a tag whose language has none.
pub(super) fn to_iso_639_2(tag: &str) -> Option<[u8; 3]> {
    let language = tag.split(['-', '_']).next()?.to_ascii_lowercase();
    let bytes = language.as_bytes();
    let three = match bytes.len() {
        2 => pairs().find(|(two, _)| two.as_bytes() == bytes)?.1.as_bytes(),
        _ => bytes,
    };
    three.try_into().ok().filter(|three: &[u8; 3]| three.iter().all(u8::is_ascii_lowercase))
}

/// The BCP 47 tag for three letters; none for what is no language.
pub(super) fn from_iso_639_2(three: [u8; 3]) -> Option<Box<str>> {
    let three = three.map(|letter| letter.to_ascii_lowercase());
    let name = str::from_utf8(&three).ok().filter(|name| name.bytes().all(|letter| letter.is_ascii_lowercase()))?;
    let name = BIBLIOGRAPHIC.iter().find(|(old, _)| *old == name).map_or(name, |(_, name)| name);
    if name == "und" {
        return None;
    }
    Some(pairs().find(|(_, three)| *three == name).map_or(name, |(two, _)| two).into())
}

fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAIRS.split(' ').filter_map(|pair| pair.split_at_checked(2))
}

/// Where ISO 639-2 has another name for libraries: it is read, and never written.
const BIBLIOGRAPHIC: [(&str, &str); 20] = [
    ("tib", "bod"),
    ("cze", "ces"),
    ("wel", "cym"),
    ("ger", "deu"),
    ("gre", "ell"),
    ("baq", "eus"),
    ("per", "fas"),
    ("fre", "fra"),
    ("arm", "hye"),
    ("ice", "isl"),
    ("geo", "kat"),
    ("mao", "mri"),
    ("mac", "mkd"),
    ("may", "msa"),
    ("bur", "mya"),
    ("dut", "nld"),
    ("rum", "ron"),
    ("slo", "slk"),
    ("alb", "sqi"),
    ("chi", "zho"),
];

/// ISO 639-1 and the terminological code of ISO 639-2.
const PAIRS: &str = "\
    aaaar ababk aeave afafr akaka amamh anarg arara asasm avava ayaym azaze babak bebel bgbul bhbih bibis bmbam \
    bnben bobod brbre bsbos cacat ceche chcha cocos crcre csces cuchu cvchv cycym dadan dedeu dvdiv dzdzo eeewe \
    elell eneng eoepo esspa etest eueus fafas ffful fifin fjfij fofao frfra fyfry gagle gdgla glglg gngrn guguj \
    gvglv hahau heheb hihin hohmo hrhrv hthat huhun hyhye hzher iaina idind ieile igibo iiiii ikipk ioido isisl \
    itita iuiku jajpn jvjav kakat kgkon kikik kjkua kkkaz klkal kmkhm knkan kokor krkau kskas kukur kvkom kwcor \
    kykir lalat lbltz lglug lilim lnlin lolao ltlit lulub lvlav mgmlg mhmah mimri mkmkd mlmal mnmon mrmar msmsa \
    mtmlt mymya nanau nbnob ndnde nenep ngndo nlnld nnnno nonor nrnbl nvnav nynya ococi ojoji omorm orori ososs \
    papan pipli plpol pspus ptpor quque rmroh rnrun roron rurus rwkin sasan scsrd sdsnd sesme sgsag sisin skslk \
    slslv smsmo snsna sosom sqsqi srsrp ssssw stsot susun svswe swswa tatam tetel tgtgk ththa titir tktuk tltgl \
    tntsn toton trtur tstso tttat twtwi tytah uguig ukukr ururd uzuzb veven vivie vovol wawln wowol xhxho yiyid \
    yoyor zazha zhzho zuzul";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_two_and_three_letters_become_three_and_come_back() {
        for (tag, three) in [("en", "eng"), ("de-AT", "deu"), ("pt_BR", "por"), ("nds", "nds"), ("ZH-Hant", "zho")] {
            assert_eq!(to_iso_639_2(tag).as_ref().map(|three| &three[..]), Some(three.as_bytes()), "{tag}");
        }
        for (three, tag) in [("eng", "en"), ("ger", "de"), ("DEU", "de"), ("nds", "nds")] {
            assert_eq!(from_iso_639_2(three.as_bytes().try_into().unwrap()).as_deref(), Some(tag));
        }
        assert_eq!(pairs().count(), 184);
        assert!(pairs().all(|(two, _)| from_iso_639_2(to_iso_639_2(two).unwrap()).as_deref() == Some(two)));
    }

    #[test]
    fn what_is_no_language_is_none() {
        for tag in ["", "x", "xx", "x-klingon", "1234", "e\u{e9}"] {
            assert_eq!(to_iso_639_2(tag), None, "{tag}");
        }
        assert_eq!(from_iso_639_2(*b"und"), None);
        assert_eq!(from_iso_639_2([0, 0xFF, b'a']), None);
    }
}
