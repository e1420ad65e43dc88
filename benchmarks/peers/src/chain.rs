//! SMG's ChainIndex. `INTO`: lookups report to a buffer that is used again, its best case;
//! otherwise they return its answer, a map.

use std::cell::RefCell;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use kv_index::{ChainBlockMap, ChainIndex, ContentHash, SequenceHash, StoredBlock};

use crate::index::{Change, ConcurrentIndex, Lookup, PeerIndex, PeerInput};
use crate::measure::thread_seconds;
use crate::workload::Workload;

/// Slices of each event's blocks in the index's types.
pub struct ChainInput {
    workload: Workload,
    stored: Vec<Vec<StoredBlock>>,
    removed: Vec<Vec<SequenceHash>>,
    lookups: Vec<Vec<ContentHash>>,
}

impl PeerInput for ChainInput {
    fn prepare(workload: Workload) -> Self {
        let stored = |number| {
            let blocks = workload.names(number).iter().zip(workload.labels(number));
            let block = |(&name, &label)| StoredBlock {
                seq_hash: SequenceHash(name),
                content_hash: ContentHash(label),
            };
            blocks.map(block).collect()
        };
        let removed = |number| {
            let names = workload.names(number).iter().rev();
            names.copied().map(SequenceHash).collect()
        };
        let lookup = |labels: &[u64]| labels.iter().copied().map(ContentHash).collect();
        Self {
            stored: (0..workload.events.len()).map(stored).collect(),
            removed: (0..workload.events.len()).map(removed).collect(),
            lookups: workload.lookups().map(lookup).collect(),
            workload,
        }
    }

    fn workload(&self) -> &Workload {
        &self.workload
    }

    fn relabel(&mut self, key: u64) {
        self.workload.relabel(key);
        for block in self.stored.iter_mut().flatten() {
            block.seq_hash.0 ^= key;
            block.content_hash.0 ^= key;
        }
        for hash in self.removed.iter_mut().flatten() {
            hash.0 ^= key;
        }
    }
}

pub struct Chain<const INTO: bool> {
    index: Arc<ChainIndex>,
    workers: Vec<u32>,
    maps: Vec<ChainBlockMap>,
}

thread_local! {
    /// The buffer that a reader's lookups report to.
    static SCORES: RefCell<Vec<(u32, u32)>> = const { RefCell::new(Vec::new()) };
}

fn apply(
    index: &ChainIndex,
    workers: &[u32],
    maps: &mut [ChainBlockMap],
    input: &ChainInput,
    change: Change,
) {
    let (Change::Store(number) | Change::Remove(number)) = change;
    let event = &input.workload.events[number];
    let (worker, map) = (workers[event.slot], &mut maps[event.slot]);
    match change {
        Change::Store(_) => index
            .apply_stored(worker, &input.stored[number], event.parent.map(SequenceHash), map)
            .expect("an event that applies"),
        Change::Remove(_) => index.apply_removed(worker, &input.removed[number], map),
    }
}

impl<const INTO: bool> PeerIndex for Chain<INTO> {
    type Input = ChainInput;

    fn create(slots: usize) -> Self {
        let index = ChainIndex::with_max_workers(slots);
        let worker = |slot| index.intern_worker(&format!("worker-{slot}")).expect("a free slot");
        Self {
            workers: (0..slots).map(worker).collect(),
            maps: (0..slots).map(|_| ChainBlockMap::new()).collect(),
            index: Arc::new(index),
        }
    }

    fn write(&mut self, input: &ChainInput, changes: &[Change]) -> f64 {
        let begin = thread_seconds();
        for &change in changes {
            apply(&self.index, &self.workers, &mut self.maps, input, change);
        }
        thread_seconds() - begin
    }

    fn lookup(&self, input: &ChainInput, number: usize) -> Lookup {
        let labels = &input.lookups[number];
        let (nanoseconds, depth) = if INTO {
            SCORES.with_borrow_mut(|scores| {
                let begin = Instant::now();
                scores.clear();
                let report = |worker, score| scores.push((worker, score));
                self.index.score_into(labels, |label| label.0, false, report);
                let nanoseconds = begin.elapsed().as_nanos() as f64;
                (nanoseconds, scores.iter().map(|&(_, score)| score).max())
            })
        } else {
            let begin = Instant::now();
            let answer = self.index.find_matches(labels, false);
            let nanoseconds = begin.elapsed().as_nanos() as f64;
            (nanoseconds, answer.scores.values().copied().max())
        };
        Lookup { nanoseconds, depth: depth.unwrap_or(0) as usize }
    }

    fn held(&self) -> usize {
        self.index.current_size()
    }
}

impl<const INTO: bool> ConcurrentIndex for Chain<INTO> {
    fn start_writer(
        &mut self,
        input: &Arc<ChainInput>,
        changes: Vec<Change>,
    ) -> (Instant, JoinHandle<()>) {
        let (index, input) = (Arc::clone(&self.index), Arc::clone(input));
        let (workers, mut maps) = (self.workers.clone(), std::mem::take(&mut self.maps));
        let begin = Instant::now();
        let writing = thread::spawn(move || {
            for change in changes {
                apply(&index, &workers, &mut maps, &input, change);
            }
        });
        (begin, writing)
    }
}
