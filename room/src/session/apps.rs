//! What a thread knows of an app: its bindings, their tags, its newest broadcasts.

use std::collections::HashMap;

use audience::Audience;
use foldhash::fast::RandomState;
use roaring::RoaringBitmap;
use slab::Slab;
use wire::id::AppId;

use super::log::Log;

/// The apps that have been bound in this thread. An app stays when its last binding goes: what it costs then is a few
/// hundred bytes, and only the cluster's administrators make apps.
pub(crate) type Apps = HashMap<AppId, App, RandomState>;

/// One app.
#[derive(Debug)]
pub(crate) struct App {
    /// Live bindings, by slot.
    pub(crate) members: RoaringBitmap,
    pub(crate) tags: Tags,
    pub(crate) log: Log,
}

/// The tags of an app's bindings.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    numbers: HashMap<Box<str>, u32, RandomState>,
    tags: Slab<Tag>,
}

#[derive(Debug)]
struct Tag {
    name: Box<str>,
    members: RoaringBitmap,
}

/// The numbers of one binding's tags in the app's table. A struct, so that a box of it is one word in each binding.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TagNumbers(Box<[u32]>);

/// The app has as many different tags as it may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyTags;

impl App {
    pub(crate) fn new(log: Log) -> Self {
        Self { members: RoaringBitmap::new(), tags: Tags::default(), log }
    }

    /// Enters a binding with its tags and gives the tags' numbers. Nothing is entered if it fails.
    pub(crate) fn enter(
        &mut self,
        slot: u32,
        tags: &[String],
        max_tags: usize,
    ) -> Result<Option<Box<TagNumbers>>, TooManyTags> {
        let mut tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        tags.sort_unstable();
        tags.dedup();
        let fresh = tags.iter().filter(|tag| !self.tags.numbers.contains_key(**tag)).count();
        if self.tags.tags.len() + fresh > max_tags {
            return Err(TooManyTags);
        }
        let numbers: Vec<u32> = tags.into_iter().map(|tag| self.tags.enter(tag, slot)).collect();
        self.members.insert(slot);
        Ok((!numbers.is_empty()).then(|| Box::new(TagNumbers(numbers.into_boxed_slice()))))
    }

    /// Takes a binding out. `tags` is what [`App::enter`] gave.
    pub(crate) fn leave(&mut self, slot: u32, tags: Option<&TagNumbers>) {
        self.members.remove(slot);
        for tag in tags.iter().flat_map(|tags| &tags.0) {
            self.tags.leave(*tag, slot);
        }
        self.log.forget(slot);
    }

    /// How many bindings an audience has now.
    pub(crate) fn count(&self, audience: &Audience) -> u64 {
        audience.select(&self.members, |tag| self.tags.members(tag)).len()
    }

    /// Bytes of the bitmaps.
    pub(crate) fn bitmap_bytes(&self) -> usize {
        let bytes = |members: &RoaringBitmap| {
            members.statistics().n_bytes_array_containers
                + members.statistics().n_bytes_bitset_containers
                + members.statistics().n_bytes_run_containers
        };
        let tags = self.tags.tags.iter().map(|(_, tag)| bytes(&tag.members));
        (bytes(&self.members) + tags.sum::<u64>()) as usize
    }

    /// The bindings of an audience.
    pub(crate) fn select(&self, audience: &Audience) -> RoaringBitmap {
        audience.select(&self.members, |tag| self.tags.members(tag)).into_owned()
    }
}

impl Tags {
    /// How many different tags there are.
    pub(crate) fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether one binding belongs to an audience.
    pub(crate) fn matches(&self, audience: &Audience, slot: u32) -> bool {
        audience.matches(|tag| self.members(tag).is_some_and(|members| members.contains(slot)))
    }

    fn members(&self, tag: &str) -> Option<&RoaringBitmap> {
        self.numbers.get(tag).map(|number| &self.tags[*number as usize].members)
    }

    fn enter(&mut self, tag: &str, slot: u32) -> u32 {
        let number = match self.numbers.get(tag) {
            Some(number) => *number,
            None => {
                let number = self.tags.insert(Tag { name: tag.into(), members: RoaringBitmap::new() }) as u32;
                self.numbers.insert(tag.into(), number);
                number
            }
        };
        self.tags[number as usize].members.insert(slot);
        number
    }

    fn leave(&mut self, number: u32, slot: u32) {
        let Some(tag) = self.tags.get_mut(number as usize) else { return };
        tag.members.remove(slot);
        if tag.members.is_empty() {
            let tag = self.tags.remove(number as usize);
            self.numbers.remove(&tag.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn tags_come_and_go_with_their_bindings() {
        let mut app = App::new(Log::new(1, 0));
        let one = app.enter(1, &tags(&["ios", "beta", "ios"]), 2).unwrap();
        assert_eq!(app.enter(2, &tags(&["ios", "eu"]), 2), Err(TooManyTags));
        let two = app.enter(2, &tags(&["ios"]), 2).unwrap();
        assert_eq!(app.enter(3, &[], 2), Ok(None));
        let audience: Audience = "ios and not beta".parse().unwrap();
        assert_eq!(app.select(&audience).iter().collect::<Vec<_>>(), [2]);
        assert!(!app.tags.matches(&audience, 1));
        app.leave(1, one.as_deref());
        app.leave(2, two.as_deref());
        assert!(app.tags.numbers.is_empty() && app.tags.tags.is_empty());
        assert_eq!(app.count(&Audience::everyone()), 1);
    }
}
