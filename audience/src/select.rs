//! An expression as set algebra over bitmaps.

use std::borrow::Cow;

use roaring::RoaringBitmap;

use crate::expression::{Audience, Expression};

impl Audience {
    /// The members of `all` for whom the expression holds. `with` gives the members that have a tag; it may hold
    /// more than `all` does, and `None` means nobody has the tag.
    pub fn select<'a>(
        &self,
        all: &'a RoaringBitmap,
        with: impl Fn(&str) -> Option<&'a RoaringBitmap>,
    ) -> Cow<'a, RoaringBitmap> {
        match &self.root {
            None => Cow::Borrowed(all),
            // One final cut keeps the promise "members of `all`" whatever the tag bitmaps hold.
            Some(root) => Cow::Owned(root.select(all, &with).as_ref() & all),
        }
    }
}

impl Expression {
    fn select<'a>(
        &self,
        all: &'a RoaringBitmap,
        with: &impl Fn(&str) -> Option<&'a RoaringBitmap>,
    ) -> Cow<'a, RoaringBitmap> {
        match self {
            Self::Tag(tag) => with(tag).map_or_else(|| Cow::Owned(RoaringBitmap::new()), Cow::Borrowed),
            Self::Not(inner) => Cow::Owned(all - inner.select(all, with).as_ref()),
            Self::And(parts) => {
                let mut result: Option<Cow<'a, RoaringBitmap>> = None;
                for part in parts {
                    let next = part.select(all, with);
                    let joined = match result {
                        None => next,
                        Some(so_far) => Cow::Owned(so_far.as_ref() & next.as_ref()),
                    };
                    // Nothing can come back into an empty intersection.
                    if joined.is_empty() {
                        return joined;
                    }
                    result = Some(joined);
                }
                result.unwrap_or(Cow::Borrowed(all))
            }
            Self::Or(parts) => {
                let mut result = RoaringBitmap::new();
                for part in parts {
                    result |= part.select(all, with).as_ref();
                }
                Cow::Owned(result)
            }
        }
    }
}
