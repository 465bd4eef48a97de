//! What a thread knows of an app: its bindings, what they are found by, its newest broadcasts.

use std::{collections::HashMap, sync::Arc};

use audience::{Audience, Device, Index, Offset, VersionKey};
use foldhash::fast::RandomState;
use roaring::RoaringBitmap;
use slab::Slab;
use wire::id::AppId;

use super::{binding::Binding, log::Log};
use crate::exchange::Meant;

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

/// What an app's bindings are found by: their tags, and apart from those, so that no tag can be mistaken for it, what their
/// devices told of themselves.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    /// The room's.
    zone: Arc<str>,
    numbers: HashMap<Box<str>, u32, RandomState>,
    tags: Slab<Tag>,
    index: Index,
}

#[derive(Debug)]
struct Tag {
    name: Box<str>,
    members: RoaringBitmap,
}

/// The numbers of one binding's tags in the app's table, and its version. A struct, so that a box of it is one word in each
/// binding.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TagNumbers {
    numbers: Box<[u32]>,
    version: Option<VersionKey>,
}

/// The app has as many different tags as it may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyTags;

impl App {
    pub(crate) fn new(log: Log, zone: &Arc<str>) -> Self {
        let tags = Tags { zone: Arc::clone(zone), ..Tags::default() };
        Self { members: RoaringBitmap::new(), tags, log }
    }

    /// Enters a binding with its tags and what its device told, and gives the numbers of both. Nothing is entered if it fails.
    pub(crate) fn enter(
        &mut self,
        slot: u32,
        tags: &[String],
        device: &Device,
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
        let version = self.tags.index.enter(slot, device);
        self.members.insert(slot);
        let told = !numbers.is_empty() || version.is_some();
        Ok(told.then(|| Box::new(TagNumbers { numbers: numbers.into_boxed_slice(), version })))
    }

    /// Takes a binding out.
    pub(crate) fn leave(&mut self, slot: u32, binding: &Binding) {
        self.members.remove(slot);
        for tag in binding.tags.iter().flat_map(|tags| &tags.numbers) {
            self.tags.leave(*tag, slot);
        }
        let version = binding.tags.as_ref().and_then(|tags| tags.version);
        self.tags.index.leave(slot, binding.network, binding.offset, version);
        self.log.forget(slot);
    }

    /// The device of a binding is on another network, or its clock shows another offset.
    pub(crate) fn change(&mut self, slot: u32, binding: &mut Binding, network: u8, offset: Offset) {
        self.tags.index.leave(slot, binding.network, binding.offset, None);
        self.tags.index.enter(slot, &Device { network, offset, ..Device::default() });
        (binding.network, binding.offset) = (network, offset);
    }

    /// How many bindings an audience has now.
    pub(crate) fn count(&self, meant: &Meant) -> u64 {
        self.tags.select(&self.members, meant).len()
    }

    /// Bytes of the bitmaps.
    pub(crate) fn bitmap_bytes(&self) -> usize {
        let bytes = |members: &RoaringBitmap| {
            members.statistics().n_bytes_array_containers
                + members.statistics().n_bytes_bitset_containers
                + members.statistics().n_bytes_run_containers
        };
        let tags = self.tags.tags.iter().map(|(_, tag)| bytes(&tag.members));
        (bytes(&self.members) + tags.sum::<u64>() + self.tags.index.bytes()) as usize
    }

    /// The bindings that something is meant for, wherever on the ring they are.
    pub(crate) fn select(&self, meant: &Meant) -> RoaringBitmap {
        self.tags.select(&self.members, meant).into_owned()
    }
}

impl Tags {
    /// How many different tags there are.
    pub(crate) fn len(&self) -> usize {
        self.tags.len()
    }

    /// The members that something is meant for, wherever on the ring they are.
    pub(crate) fn select<'a>(
        &'a self,
        members: &'a RoaringBitmap,
        meant: &Meant,
    ) -> std::borrow::Cow<'a, RoaringBitmap> {
        let chosen = meant.audience.select(members, |tag| self.members(tag));
        if meant.filter.is_everyone() {
            return chosen;
        }
        self.index.select(&meant.filter, &self.zone, chosen)
    }

    /// Whether something is meant for one binding, wherever on the ring it is.
    pub(crate) fn matches(&self, meant: &Meant, slot: u32, binding: &Binding) -> bool {
        self.has_tags(&meant.audience, slot)
            && (meant.filter.is_everyone() || meant.filter.matches(&self.zone, &self.device(binding)))
    }

    fn has_tags(&self, audience: &Audience, slot: u32) -> bool {
        audience.matches(|tag| self.members(tag).is_some_and(|members| members.contains(slot)))
    }

    fn device(&self, binding: &Binding) -> Device {
        let version = binding.tags.as_ref().and_then(|tags| tags.version);
        Device {
            network: binding.network,
            offset: binding.offset,
            version: version.and_then(|key| self.index.version(key)),
            place: binding.place,
        }
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

    fn meant(text: &str) -> Meant {
        text.parse::<Audience>().unwrap().into()
    }

    #[test]
    fn tags_come_and_go_with_their_bindings() {
        let mut app = App::new(Log::new(1, 0), &"z".into());
        let none = Device::default();
        let one = app.enter(1, &tags(&["ios", "beta", "ios"]), &none, 2).unwrap();
        assert_eq!(app.enter(2, &tags(&["ios", "eu"]), &none, 2), Err(TooManyTags));
        let two = app.enter(2, &tags(&["ios"]), &none, 2).unwrap();
        assert_eq!(app.enter(3, &[], &none, 2), Ok(None), "who told nothing costs nothing");
        let audience = meant("ios and not beta");
        assert_eq!(app.select(&audience).iter().collect::<Vec<_>>(), [2]);
        let binding = |tags| Binding { tags, ..Binding::simulated() };
        let (one, two) = (binding(one), binding(two));
        assert!(!app.tags.matches(&audience, 1, &one) && app.tags.matches(&audience, 2, &two));
        app.leave(1, &one);
        app.leave(2, &two);
        assert!(app.tags.numbers.is_empty() && app.tags.tags.is_empty());
        assert_eq!(app.count(&meant("")), 1);
    }

    /// A tag may be anything, so what devices tell has a place of its own; and it does not count as a tag.
    #[test]
    fn what_devices_tell_is_no_tag() {
        let mut app = App::new(Log::new(1, 0), &"z".into());
        let device = Device::told(2, Some(-90), "1.2.3");
        let numbers = app.enter(1, &[], &device, 0).unwrap();
        let mut binding = Binding { tags: numbers, ..Binding::simulated() };
        (binding.network, binding.offset) = (device.network, device.offset);
        assert_eq!(app.tags.len(), 0);
        let filter = |values| Meant { filter: audience::Filter::new(&values).unwrap(), ..Meant::default() };
        let none = audience::FilterValues::default();
        let zones = ["z".to_owned()];
        for values in [
            audience::FilterValues { zones: &zones, ..none },
            audience::FilterValues { networks: &[2], ..none },
            audience::FilterValues { version_from: "1.2", version_below: "1.10", ..none },
            audience::FilterValues { utc_offset_min: Some(-90), ..none },
        ] {
            let meant = filter(values);
            assert!(app.select(&meant).contains(1) && app.tags.matches(&meant, 1, &binding), "{values:?}");
        }
        app.change(1, &mut binding, 5, Offset::UNTOLD);
        let meant = filter(audience::FilterValues { networks: &[2], ..none });
        assert!(!app.select(&meant).contains(1) && !app.tags.matches(&meant, 1, &binding));
        let meant = filter(audience::FilterValues { version_from: "1.2", ..none });
        assert!(app.select(&meant).contains(1) && app.tags.matches(&meant, 1, &binding));
        app.leave(1, &binding);
        assert!(app.tags.index.is_empty());
    }
}
