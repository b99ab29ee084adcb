//! Objects in memory: for tests, and for what need not outlive the process.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::extension::{ObjectInfo, ObjectName, ObjectWriter, StorageBackend, StorageError};

/// A backend that holds its objects in memory, up to a bound. A clone is the same storage.
#[derive(Clone, Debug)]
pub struct Memory {
    objects: Arc<Mutex<Objects>>,
}

#[derive(Debug)]
struct Objects {
    by_name: BTreeMap<ObjectName, Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
}

impl Objects {
    /// Whether so many bytes more have room when so many others go.
    fn has_room(&self, more: usize, less: usize) -> Result<(), StorageError> {
        let sum = self.bytes.saturating_add(more).saturating_sub(less);
        if sum > self.bytes_max { Err(StorageError::NoRoom) } else { Ok(()) }
    }

    fn add(&mut self, name: &ObjectName, pieces: &[Bytes]) -> Result<(), StorageError> {
        let more = length(pieces);
        self.has_room(more, 0)?;
        let object = self.by_name.entry(name.clone()).or_default();
        pieces.iter().for_each(|piece| object.extend_from_slice(piece));
        self.bytes += more;
        Ok(())
    }
}

impl Memory {
    /// Nothing yet, and room for so many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let objects = Objects { by_name: BTreeMap::new(), bytes: 0, bytes_max };
        Self { objects: Arc::new(Mutex::new(objects)) }
    }

    /// Other room than before. What is there stays.
    pub fn set_bytes_max(&self, bytes_max: usize) {
        self.objects.lock().bytes_max = bytes_max;
    }
}

fn length(pieces: &[Bytes]) -> usize {
    pieces.iter().fold(0, |sum, piece| sum.saturating_add(piece.len()))
}

impl StorageBackend for Memory {
    fn put(&self, name: &ObjectName, pieces: &[Bytes]) -> Result<(), StorageError> {
        let mut objects = self.objects.lock();
        let (more, less) = (length(pieces), objects.by_name.get(name).map_or(0, Vec::len));
        objects.has_room(more, less)?;
        objects.bytes = objects.bytes + more - less;
        objects.by_name.insert(name.clone(), pieces.concat());
        Ok(())
    }

    fn begin(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter>, StorageError> {
        let mut objects = self.objects.lock();
        if objects.by_name.contains_key(name) {
            return Err(StorageError::Exists);
        }
        objects.add(name, &[])?;
        Ok(Box::new(Growing { storage: self.clone(), name: name.clone() }))
    }

    fn get(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StorageError> {
        let objects = self.objects.lock();
        let object = objects.by_name.get(name).ok_or(StorageError::NotFound)?;
        let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(object.len());
        let found = object.get(within(range.start)..within(range.end)).unwrap_or_default();
        Ok(Bytes::copy_from_slice(found))
    }

    fn size(&self, name: &ObjectName) -> Result<u64, StorageError> {
        let objects = self.objects.lock();
        objects.by_name.get(name).map(|object| object.len() as u64).ok_or(StorageError::NotFound)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        let mut objects = self.objects.lock();
        let object = objects.by_name.remove(name).ok_or(StorageError::NotFound)?;
        objects.bytes -= object.len();
        Ok(())
    }

    fn list(
        &self,
        prefix: Option<&ObjectName>,
        found: &mut dyn FnMut(ObjectInfo) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let objects = self.objects.lock();
        let below = objects.by_name.iter().filter(|(name, _)| prefix.is_none_or(|prefix| name.is_below(prefix)));
        let infos: Vec<_> =
            below.map(|(name, object)| ObjectInfo { name: name.clone(), bytes: object.len() as u64 }).collect();
        // Whoever is told of one may delete it.
        drop(objects);
        let _ = infos.into_iter().try_for_each(found);
        Ok(())
    }

    fn append(&self, name: &ObjectName, bytes: &Bytes) -> Result<(), StorageError> {
        self.objects.lock().add(name, std::slice::from_ref(bytes))
    }

    fn cut(&self, name: &ObjectName, length: u64) -> Result<(), StorageError> {
        let mut objects = self.objects.lock();
        let object = objects.by_name.get_mut(name).ok_or(StorageError::NotFound)?;
        let before = object.len();
        object.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        let less = before - object.len();
        objects.bytes -= less;
        Ok(())
    }
}

struct Growing {
    storage: Memory,
    name: ObjectName,
}

impl ObjectWriter for Growing {
    fn write(&mut self, pieces: &[Bytes]) -> Result<(), StorageError> {
        let mut objects = self.storage.objects.lock();
        if !objects.by_name.contains_key(&self.name) {
            return Err(StorageError::NotFound);
        }
        objects.add(&self.name, pieces)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), StorageError> {
        Ok(())
    }

    fn abort(self: Box<Self>) {
        let _ = self.storage.delete(&self.name);
    }
}
