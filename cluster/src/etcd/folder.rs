//! What a node keeps in its data folder so that it is the same node after a restart.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{DiscoveryError, Incarnation, NodeId, Role};

/// The file; `version` is that of the format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    owner: String,
    id: Option<NodeId>,
    /// The files of `id` are being renamed for this one.
    #[serde(default)]
    moving_to: Option<NodeId>,
}

const VERSION: u32 = 1;

/// A node's place in its data folder. No other process with the same role uses the folder as long as this lives; the
/// system ends that when the process dies, however it dies.
#[derive(Debug)]
pub(crate) struct Folder {
    data: PathBuf,
    role: Role,
    kept: Kept,
    _lock: File,
}

impl Folder {
    /// Takes the folder, which must be there.
    pub(crate) fn open(data: &Path, role: Role) -> Result<Self, DiscoveryError> {
        let fail = |path: &Path, source| DiscoveryError::Folder { path: path.to_owned(), source };
        let lock = data.join(format!("{role}.lock"));
        let file = File::options().write(true).create(true).truncate(false).open(&lock);
        let file = file.map_err(|e| fail(&lock, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DiscoveryError::InUse { path: data.to_owned(), role });
            }
            Err(TryLockError::Error(e)) => return Err(fail(&lock, e)),
        }
        let path = data.join(format!("{role}.node"));
        let kept = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Kept>(&bytes)
                .map_err(|e| fail(&path, io::Error::new(io::ErrorKind::InvalidData, e)))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Kept { version: VERSION, owner: super::random_word(), id: None, moving_to: None }
            }
            Err(e) => return Err(fail(&path, e)),
        };
        if kept.version != VERSION {
            let reason = format!("is of version {}; this program knows {VERSION}", kept.version);
            return Err(fail(&path, io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        let mut folder = Self { data: data.to_owned(), role, kept, _lock: file };
        // Before etcd hears of the word, so that a kill in between leaves no stranger there.
        folder.write()?;
        if let Some(id) = folder.kept.moving_to {
            folder.move_to(id)?;
        }
        Ok(folder)
    }

    pub(crate) fn owner(&self) -> &str {
        &self.kept.owner
    }

    /// The id of the life before.
    pub(crate) fn id(&self) -> Option<NodeId> {
        self.kept.id
    }

    /// The greatest number of a life that was ever written here for this role.
    pub(crate) fn last_life(&self) -> u64 {
        let names = fs::read_dir(&self.data).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let ours = names.filter(|name| {
            name.strip_prefix(self.role.as_str()).is_some_and(|rest| rest.starts_with('-'))
                && name.ends_with(".incarnation")
        });
        let numbers =
            ours.filter_map(|name| fs::read_to_string(self.data.join(name)).ok()?.trim().parse().ok());
        numbers.max().unwrap_or(0)
    }

    /// Keeps the id, and the number of this life.
    pub(crate) fn enter(&mut self, id: NodeId, number: u64) -> Result<Incarnation, DiscoveryError> {
        if self.kept.id != Some(id) {
            self.move_to(id)?;
        }
        let name = format!("{}-{id}", self.role);
        Ok(Incarnation::at_least(&self.data, &name, number)?)
    }

    /// Becomes another node: what was kept under the old id (a coordinator's events that wait for their backend) is kept
    /// under the new one. A kill in between leaves a note, and the next start goes on.
    fn move_to(&mut self, id: NodeId) -> Result<(), DiscoveryError> {
        if let Some(old) = self.kept.id {
            self.kept.moving_to = Some(id);
            self.write()?;
            self.rename(&format!("{}-{old}", self.role), &format!("{}-{id}", self.role))?;
        }
        self.kept.id = Some(id);
        self.kept.moving_to = None;
        self.write()
    }

    /// Gives files that are named after a node the name of another.
    fn rename(&self, old: &str, new: &str) -> Result<(), DiscoveryError> {
        let fail = |path: &Path, source| DiscoveryError::Folder { path: path.to_owned(), source };
        for entry in fs::read_dir(&self.data).map_err(|e| fail(&self.data, e))? {
            let entry = entry.map_err(|e| fail(&self.data, e))?;
            let name = entry.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix(old));
            // Not those of node 12 for node 1.
            let Some(rest) = rest.filter(|rest| rest.starts_with(['-', '.'])) else { continue };
            let target = self.data.join(format!("{new}{rest}"));
            if rest == ".incarnation" {
                continue;
            }
            if target.exists() {
                tracing::error!(file = %entry.path().display(), target = %target.display(),
                    "both are there: what the first holds is not used any more");
                continue;
            }
            fs::rename(entry.path(), &target).map_err(|e| fail(&target, e))?;
        }
        File::open(&self.data).and_then(|folder| folder.sync_all()).map_err(|e| fail(&self.data, e))
    }

    fn write(&self) -> Result<(), DiscoveryError> {
        let path = self.data.join(format!("{}.node", self.role));
        let text = serde_json::to_string(&self.kept).unwrap_or_default();
        crate::incarnation::replace(&self.data, &path, &text)
            .map_err(|source| DiscoveryError::Folder { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A coordinator that got another id looked for its spilled events under that one, and never sent those it had.
    #[test]
    fn what_was_kept_moves_with_the_node() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut folder = Folder::open(dir.path(), Role::Coordinator).unwrap();
        folder.enter(NodeId(1), 1).unwrap();
        for name in
            ["coordinator-1-spill.sqlite", "coordinator-1-spill.sqlite-wal", "coordinator-12-x", "room-1-x"]
        {
            fs::write(at(name), name).unwrap();
        }
        folder.enter(NodeId(5), 2).unwrap();
        let moved = fs::read_to_string(at("coordinator-5-spill.sqlite-wal")).unwrap();
        assert_eq!(moved, "coordinator-1-spill.sqlite-wal");
        assert!(at("coordinator-5-spill.sqlite").exists() && !at("coordinator-1-spill.sqlite").exists());
        assert!(at("coordinator-12-x").exists() && at("room-1-x").exists());
        drop(folder);
        // Killed after the first of two was renamed.
        fs::rename(at("coordinator-5-spill.sqlite"), at("coordinator-6-spill.sqlite")).unwrap();
        let note = fs::read_to_string(at("coordinator.node")).unwrap();
        fs::write(at("coordinator.node"), note.replace("\"moving_to\":null", "\"moving_to\":6")).unwrap();
        let folder = Folder::open(dir.path(), Role::Coordinator).unwrap();
        assert_eq!(folder.id(), Some(NodeId(6)));
        assert!(at("coordinator-6-spill.sqlite").exists() && at("coordinator-6-spill.sqlite-wal").exists());
    }

    #[test]
    fn a_node_is_the_same_after_a_restart_and_alone_in_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(dir.path(), Role::Room).unwrap();
        assert_eq!((folder.id(), folder.last_life()), (None, 0));
        assert!(matches!(Folder::open(dir.path(), Role::Room), Err(DiscoveryError::InUse { .. })));
        Folder::open(dir.path(), Role::Saver).unwrap();
        assert_eq!(folder.enter(NodeId(7), 40).unwrap(), Incarnation(40));
        let owner = folder.owner().to_owned();
        drop(folder);
        let mut folder = Folder::open(dir.path(), Role::Room).unwrap();
        assert_eq!((folder.owner(), folder.id(), folder.last_life()), (owner.as_str(), Some(NodeId(7)), 40));
        // Lives grow even if discovery forgot how far they were.
        assert_eq!(folder.enter(NodeId(7), 3).unwrap(), Incarnation(41));
        fs::write(dir.path().join("room.node"), "{}").unwrap();
        drop(folder);
        assert!(matches!(Folder::open(dir.path(), Role::Room), Err(DiscoveryError::Folder { .. })));
    }
}
