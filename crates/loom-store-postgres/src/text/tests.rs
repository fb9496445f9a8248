use super::{read, stored};

const TEXTS: [&str; 9] = ["", "a", "\0", "\0\0", "\u{1}", "\u{1}\0", "a\0b", "a\u{1}", "a\u{2}"];

#[test]
fn every_text_is_read_as_it_was_stored() {
    for text in TEXTS {
        let form = stored(text);
        assert!(!form.contains('\0'), "{text:?}");
        assert_eq!(read(&form).as_deref(), Some(text));
    }
    assert_eq!(read("a\u{1}"), None);
    assert_eq!(read("\u{1}b"), None);
}

#[test]
fn order_and_prefixes_stay_the_same() {
    for one in TEXTS {
        for two in TEXTS {
            assert_eq!(stored(one).cmp(&stored(two)), one.cmp(two), "{one:?} {two:?}");
            assert_eq!(stored(two).starts_with(&*stored(one)), two.starts_with(one), "{one:?} {two:?}");
        }
    }
}
