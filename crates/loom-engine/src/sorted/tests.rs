//! The sorted ring buffer behaves like a tree map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::Sorted;

proptest! {
    #[test]
    fn it_is_an_ordered_map(steps in prop::collection::vec((0..40u32, any::<bool>(), any::<u8>()), 0..200)) {
        let (mut sorted, mut tree) = (Sorted::default(), BTreeMap::new());
        for (key, inserts, value) in steps {
            if inserts {
                sorted.insert(key, value);
                tree.insert(key, value);
            } else {
                prop_assert_eq!(sorted.remove(key), tree.remove(&key));
            }
            prop_assert!(sorted.iter().map(|(key, value)| (key, value)).eq(tree.iter()));
            prop_assert_eq!(sorted.first().map(|(key, _)| *key), tree.keys().next().copied());
            prop_assert_eq!((sorted.get(key), sorted.contains(key)), (tree.get(&key), tree.contains_key(&key)));
            prop_assert_eq!(sorted.len(), tree.len());
        }
        sorted.retain(|value| value % 2 == 0);
        tree.retain(|_, value| *value % 2 == 0);
        prop_assert!(sorted.iter().map(|(key, value)| (key, value)).eq(tree.iter()));
    }
}
