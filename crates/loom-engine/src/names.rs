//! Property names that runs use all the time, each allocated once.

use std::sync::{Arc, LazyLock};

macro_rules! names {
    ($($function:ident = $text:literal),* $(,)?) => {
        $(
            #[doc = concat!("`", $text, "`")]
            pub(crate) fn $function() -> Arc<str> {
                static NAME: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from($text));
                Arc::clone(&NAME)
            }
        )*
    };
}

names! {
    body = "body",
    name = "name",
    value = "value",
}
