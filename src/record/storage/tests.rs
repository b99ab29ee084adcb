use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::extension::{ObjectName, StorageBackend, StorageError};

/// A folder that is gone after the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("shardcast-storage-{}-{number}", std::process::id())))
    }

    fn open(&self) -> FileSystem {
        FileSystem::open(self.0.join("root")).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn listed(storage: &dyn StorageBackend, prefix: Option<&str>) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let prefix = prefix.map(name);
    let each = &mut |info: crate::extension::ObjectInfo| {
        found.push((info.name.to_string(), info.bytes));
        ControlFlow::Continue(())
    };
    storage.list(prefix.as_ref(), each).unwrap();
    found.sort();
    found
}

fn both(test: impl Fn(&dyn StorageBackend)) {
    test(&Memory::new(1 << 20));
    let folder = Folder::new();
    test(&folder.open());
}

#[test]
fn what_was_put_is_read_back_in_parts_and_replaced_whole() {
    both(|storage| {
        storage.put(&name("a/b/c.mp4"), &[Bytes::from_static(b"0123"), Bytes::from_static(b"456789")]).unwrap();
        assert_eq!(storage.get(&name("a/b/c.mp4"), 3..6).unwrap(), "345");
        assert_eq!(storage.get(&name("a/b/c.mp4"), 8..99).unwrap(), "89");
        assert_eq!(storage.get(&name("a/b/c.mp4"), 99..200).unwrap(), "");
        storage.put(&name("a/b/c.mp4"), &[Bytes::from_static(b"new")]).unwrap();
        assert_eq!(
            (storage.size(&name("a/b/c.mp4")), &storage.get(&name("a/b/c.mp4"), 0..9).unwrap()[..]),
            (Ok(3), &b"new"[..])
        );

        storage.delete(&name("a/b/c.mp4")).unwrap();
        let gone = Err(StorageError::NotFound);
        assert_eq!(storage.get(&name("a/b/c.mp4"), 0..1), Err(StorageError::NotFound));
        assert_eq!(
            (storage.delete(&name("a/b/c.mp4")), storage.size(&name("x/y"))),
            (gone, Err(StorageError::NotFound))
        );
    });
}

#[test]
fn what_grows_can_be_read_meanwhile_and_nobody_else_begins_it() {
    both(|storage| {
        let mut writer = storage.begin(&name("live/a.mp4")).unwrap();
        // More pieces than one call takes, and some that are empty.
        let pieces: Vec<Bytes> =
            (0..700_u32).map(|n| Bytes::from(vec![n.to_be_bytes()[3]; (n % 3) as usize])).collect();
        writer.write(&pieces).unwrap();
        writer.sync().unwrap();
        assert_eq!(storage.get(&name("live/a.mp4"), 0..10_000).unwrap(), pieces.concat());
        assert_eq!(storage.begin(&name("live/a.mp4")).err(), Some(StorageError::Exists));
        writer.write(&[Bytes::from_static(b"end")]).unwrap();
        writer.finish().unwrap();
        assert_eq!(storage.size(&name("live/a.mp4")), Ok(pieces.concat().len() as u64 + 3));

        storage.begin(&name("live/b.mp4")).unwrap().abort();
        assert_eq!(storage.size(&name("live/b.mp4")), Err(StorageError::NotFound));
    });
}

#[test]
fn objects_are_appended_to_cut_and_listed() {
    both(|storage| {
        for _ in 0..3 {
            storage.append(&name("live/x/index"), &Bytes::from_static(b"line\n")).unwrap();
        }
        storage.cut(&name("live/x/index"), 7).unwrap();
        storage.cut(&name("live/x/index"), 100).unwrap();
        assert_eq!(storage.get(&name("live/x/index"), 0..99).unwrap(), "line\nli");
        storage.put(&name("live/y"), &[]).unwrap();
        storage.put(&name("livelier"), &[Bytes::from_static(b"1")]).unwrap();
        let all = [("live/x/index".into(), 7), ("live/y".into(), 0), ("livelier".into(), 1)];
        assert_eq!(listed(storage, None), all);
        assert_eq!(listed(storage, None), all, "the same once more");
        assert_eq!(listed(storage, Some("live")), all[..2]);
        assert_eq!(listed(storage, Some("live/y")), all[1..2]);
        assert_eq!(listed(storage, Some("nothing/here")), []);
    });
}

#[test]
fn full_memory_takes_nothing_and_keeps_what_it_has() {
    let storage = Memory::new(10);
    let mut writer = storage.begin(&name("a")).unwrap();
    writer.write(&[Bytes::from_static(b"12345678")]).unwrap();
    assert_eq!(writer.write(&[Bytes::from_static(b"1"), Bytes::from_static(b"23")]), Err(StorageError::NoRoom));
    assert_eq!(storage.put(&name("b"), &[Bytes::from_static(b"123")]), Err(StorageError::NoRoom));
    assert_eq!(listed(&storage, None), [("a".into(), 8)]);
    storage.put(&name("a"), &[Bytes::from_static(b"0123456789")]).unwrap();
    storage.delete(&name("a")).unwrap();
    storage.put(&name("b"), &[Bytes::from_static(b"0123456789")]).unwrap();
}

/// Somebody who can write into the tree plants links: nothing of ours goes through them.
#[test]
fn links_lead_nowhere() {
    let folder = Folder::new();
    let storage = folder.open();
    let outside = folder.0.join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "s").unwrap();
    symlink(&outside, folder.0.join("root/linked")).unwrap();
    symlink(outside.join("secret"), folder.0.join("root/file")).unwrap();

    let bytes = [Bytes::from_static(b"x")];
    for path in ["linked/secret", "linked/new/deep"] {
        assert!(storage.put(&name(path), &bytes).is_err(), "{path}");
        assert!(storage.begin(&name(path)).is_err(), "{path}");
        assert!(storage.append(&name(path), &bytes[0]).is_err(), "{path}");
        assert!(storage.get(&name(path), 0..1).is_err() && storage.delete(&name(path)).is_err(), "{path}");
    }
    assert_eq!(storage.get(&name("file"), 0..1), Err(StorageError::Denied));
    assert_eq!(storage.append(&name("file"), &bytes[0]), Err(StorageError::Denied));
    assert_eq!(storage.begin(&name("file")).err(), Some(StorageError::Exists));
    assert_eq!(listed(&storage, None), []);
    // An object takes the place of a link, not of what it points to.
    storage.put(&name("file"), &bytes).unwrap();
    assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), "s");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn folders_and_objects_of_one_name_are_told_apart_and_temporary_files_are_no_objects() {
    let folder = Folder::new();
    let storage = folder.open();
    storage.put(&name("a/b"), &[]).unwrap();
    assert_eq!(storage.put(&name("a"), &[]), Err(StorageError::Exists));
    assert_eq!(storage.put(&name("a/b/c"), &[]), Err(StorageError::Exists));
    assert_eq!(storage.get(&name("a"), 0..1), Err(StorageError::NotFound));
    std::fs::write(folder.0.join("root/a/+1-2"), "cut short").unwrap();
    assert_eq!(listed(&storage, None), [("a/b".into(), 0)]);
    let left = std::fs::read_dir(folder.0.join("root")).unwrap().count();
    assert_eq!(left, 1, "a put that failed leaves nothing behind");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The same calls on both backends have the same answers.
    #[test]
    fn the_file_system_is_as_the_memory_is(
        calls in prop::collection::vec((0..6_u8, 0..4_usize, prop::collection::vec(any::<u8>(), 0..20)), 0..30)
    ) {
        let folder = Folder::new();
        let (disk, memory) = (folder.open(), Memory::new(1 << 20));
        let names = ["a", "b/c", "b/d", "b/e/f"].map(name);
        for (call, object, bytes) in calls {
            let (object, bytes) = (&names[object], Bytes::from(bytes));
            let one = |storage: &dyn StorageBackend| match call {
                0 => storage.put(object, &[bytes.clone(), bytes.clone()]),
                1 => storage.append(object, &bytes),
                2 => storage.cut(object, bytes.len() as u64),
                3 => storage.delete(object),
                4 => storage.begin(object).and_then(|mut writer| {
                    writer.write(std::slice::from_ref(&bytes))?;
                    writer.finish()
                }),
                _ => storage.size(object).map(|_| ()),
            };
            prop_assert_eq!(one(&disk), one(&memory));
            prop_assert_eq!(disk.get(object, 3..17), memory.get(object, 3..17));
        }
        prop_assert_eq!(listed(&disk, None), listed(&memory, None));
    }
}
