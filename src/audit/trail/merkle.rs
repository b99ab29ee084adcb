//! The tree over all records of a trail (RFC 6962, section 2.1): a checkpoint signs its root, and a single record is
//! proved by a path of some dozen hashes, without the others being shown.
//!
//! A leaf is a record's own hash, which its line shows.

use super::Hash;
use super::hash::Hasher;

/// The tree as far as it goes: the roots of its full subtrees, largest first. Adding is one hash, and one more now and
/// then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// A tree of `size` leaves whose full subtrees have these roots; `None` if there can't be so many.
    pub(super) fn resume(size: u64, roots: Vec<Hash>) -> Option<Self> {
        (size.count_ones() as usize == roots.len()).then_some(Self { size, roots })
    }

    /// Adds the next leaf.
    pub fn push(&mut self, record: &Hash) {
        let mut node = leaf(record);
        let mut size = self.size;
        while size & 1 == 1
            && let Some(left) = self.roots.pop()
        {
            node = parent(&left, &node);
            size >>= 1;
        }
        self.roots.push(node);
        self.size += 1;
    }

    /// How many leaves it has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of its full subtrees.
    pub(super) fn roots(&self) -> &[Hash] {
        &self.roots
    }

    /// The hash of the whole tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev();
        let Some(last) = roots.next() else { return Hasher::of(&[]) };
        roots.fold(*last, |right, left| parent(left, &right))
    }
}

/// The path from leaf `index` (from 0) to the root of the tree of the first `size` leaves, which come in order.
/// `None` if they end before that.
pub fn prove(index: u64, size: u64, leaves: &mut impl Iterator<Item = Hash>) -> Option<Vec<Hash>> {
    let mut path = Vec::new();
    walk(index, size, leaves, &mut path)?;
    Some(path)
}

/// The root of a subtree of `size` leaves; the siblings on the way from the one at `index` go into the path.
fn walk(index: u64, size: u64, leaves: &mut impl Iterator<Item = Hash>, path: &mut Vec<Hash>) -> Option<Hash> {
    if size == 1 {
        return leaves.next().map(|record| leaf(&record));
    }
    let left_size = split(size);
    if index < left_size {
        let left = walk(index, left_size, leaves, path)?;
        let right = subtree(size - left_size, leaves)?;
        path.push(right);
        Some(parent(&left, &right))
    } else {
        let left = subtree(left_size, leaves)?;
        let right = walk(index - left_size, size - left_size, leaves, path)?;
        path.push(left);
        Some(parent(&left, &right))
    }
}

fn subtree(size: u64, leaves: &mut impl Iterator<Item = Hash>) -> Option<Hash> {
    let mut tree = Frontier::default();
    for _ in 0..size {
        tree.push(&leaves.next()?);
    }
    Some(tree.root())
}

/// The root that this record and path make together (RFC 9162, section 2.1.3.2); `None` if they cannot be of a tree
/// of this size.
#[must_use]
pub fn root_of(record: &Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut at, mut last, mut node) = (index, size - 1, leaf(record));
    for sibling in path {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            node = parent(sibling, &node);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            node = parent(&node, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(node)
}

/// The largest power of two below `size`, which is two at least.
const fn split(size: u64) -> u64 {
    1 << (u64::BITS - 1 - (size - 1).leading_zeros())
}

fn leaf(record: &Hash) -> Hash {
    let mut node = [0; 33];
    node[1..].copy_from_slice(record);
    Hasher::of(&node)
}

fn parent(left: &Hash, right: &Hash) -> Hash {
    let mut node = [1; 65];
    node[1..33].copy_from_slice(left);
    node[33..].copy_from_slice(right);
    Hasher::of(&node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u64) -> Hash {
        Hasher::of(&n.to_be_bytes())
    }

    /// As RFC 6962 writes it down.
    fn by_the_book(records: &[Hash]) -> Hash {
        match records {
            [] => Hasher::of(&[]),
            [one] => leaf(one),
            _ => {
                let (left, right) = records.split_at(usize::try_from(split(records.len() as u64)).unwrap());
                parent(&by_the_book(left), &by_the_book(right))
            }
        }
    }

    #[test]
    fn every_record_of_every_small_tree_is_proved_and_no_other() {
        let records: Vec<Hash> = (0..70).map(record).collect();
        let mut tree = Frontier::default();
        for size in 1..=70 {
            tree.push(&records[size - 1]);
            let root = by_the_book(&records[..size]);
            assert_eq!(tree.root(), root, "{size}");
            let resumed = Frontier::resume(tree.size(), tree.roots().to_vec()).unwrap();
            assert_eq!(resumed, tree);
            for index in 0..size {
                let (at, size) = (index as u64, size as u64);
                let path = prove(at, size, &mut records.iter().copied()).unwrap();
                assert_eq!(root_of(&records[index], at, size, &path), Some(root));
                assert_ne!(root_of(&record(99), at, size, &path), Some(root));
                if let Some((_, shorter)) = path.split_last() {
                    assert_ne!(root_of(&records[index], at, size, shorter), Some(root));
                }
            }
        }
        assert_eq!(prove(3, 71, &mut records.iter().copied()), None, "there are not so many");
        assert_eq!(root_of(&records[0], 5, 5, &[]), None);
    }
}
