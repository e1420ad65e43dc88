//! What the measurements need of an index.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crate::workload::Workload;

/// One change: all blocks of an event of the workload, by its number. Removals name the last block
/// first.
#[derive(Clone, Copy)]
pub enum Change {
    Store(usize),
    Remove(usize),
}

/// How long a lookup took, and the depth of the deepest worker in its answer.
pub struct Lookup {
    pub nanoseconds: f64,
    pub depth: usize,
}

/// The workload in an index's own types, so that converting it is not measured.
pub trait PeerInput: Send + Sync + 'static {
    fn prepare(workload: Workload) -> Self;
    fn workload(&self) -> &Workload;
    /// Gives all blocks other names and labels, which differ by `key`; the lookups stay. Allocates
    /// nothing.
    fn relabel(&mut self, key: u64);
}

pub trait PeerIndex: Sized {
    type Input: PeerInput;

    fn create(slots: usize) -> Self;
    /// Makes the changes. Returns the processor time that applying them took, in seconds.
    fn write(&mut self, input: &Self::Input, changes: &[Change]) -> f64;
    /// Asks the workload's lookup of this number.
    fn lookup(&self, input: &Self::Input, number: usize) -> Lookup;
    /// Blocks held, all workers together.
    fn held(&self) -> usize;
}

/// An index whose lookups run beside each other and beside changes.
pub trait ConcurrentIndex: PeerIndex + Sync {
    /// Starts to apply the changes in another thread, at full speed. Returns when nothing but
    /// applying is left to do.
    fn start_writer(
        &mut self,
        input: &Arc<Self::Input>,
        changes: Vec<Change>,
    ) -> (Instant, JoinHandle<()>);
}
