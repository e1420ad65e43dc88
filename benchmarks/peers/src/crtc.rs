//! Dynamo's ConcurrentRadixTreeCompressed behind its thread pool of one thread: lookups run on the
//! caller's thread, events go through the pool's channel.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Instant;

use dynamo_kv_router::indexer::KvIndexerInterface;
use dynamo_kv_router::protocols::{KvCacheEventData, RouterEvent};
use dynamo_kv_router::{ConcurrentRadixTreeCompressed, SyncIndexer, ThreadPoolIndexer};

use crate::dynamo_events::{deepest, DynamoInput};
use crate::index::{Change, ConcurrentIndex, Lookup, PeerIndex};
use crate::measure::other_threads_seconds;

type Pool = ThreadPoolIndexer<ConcurrentRadixTreeCompressed>;

pub struct Crtc {
    pool: Arc<Pool>,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future in this thread, which sleeps while there is nothing to do.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

impl PeerIndex for Crtc {
    type Input = DynamoInput;

    fn create(_slots: usize) -> Self {
        let pool = ThreadPoolIndexer::new(ConcurrentRadixTreeCompressed::new(), 1, 16);
        Self { pool: Arc::new(pool) }
    }

    fn write(&mut self, input: &DynamoInput, changes: &[Change]) -> f64 {
        let events: Vec<_> = changes.iter().map(|&change| input.event(change)).collect();
        let begin = other_threads_seconds();
        for event in events {
            self.pool.enqueue_event(event).expect("the pool runs");
        }
        block_on(self.pool.flush_and_wait()).expect("the pool runs");
        other_threads_seconds() - begin
    }

    fn lookup(&self, input: &DynamoInput, number: usize) -> Lookup {
        let labels = &input.lookups[number];
        let begin = Instant::now();
        let answer = self.pool.backend().find_matches(labels, false);
        let nanoseconds = begin.elapsed().as_nanos() as f64;
        Lookup { nanoseconds, depth: deepest(&answer) }
    }

    fn held(&self) -> usize {
        let blocks = |event: RouterEvent| match event.event.data {
            KvCacheEventData::Stored(stored) => stored.blocks.len(),
            _ => 0,
        };
        self.pool.backend().dump_events().into_iter().flatten().map(blocks).sum()
    }
}

impl ConcurrentIndex for Crtc {
    fn start_writer(
        &mut self,
        input: &Arc<DynamoInput>,
        changes: Vec<Change>,
    ) -> (Instant, JoinHandle<()>) {
        let events: Vec<_> = changes.iter().map(|&change| input.event(change)).collect();
        let begin = Instant::now();
        for event in events {
            self.pool.enqueue_event(event).expect("the pool runs");
        }
        let pool = Arc::clone(&self.pool);
        let waiting = thread::spawn(move || {
            block_on(pool.flush_and_wait()).expect("the pool runs");
        });
        (begin, waiting)
    }
}

impl Drop for Crtc {
    fn drop(&mut self) {
        self.pool.shutdown();
    }
}
