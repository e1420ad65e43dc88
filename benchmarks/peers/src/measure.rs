//! The measurements, each for one index and one workload in a process of its own.

use std::sync::Arc;
use std::time::Instant;

use crate::index::{Change, PeerIndex};
use crate::process_memory::{count_allocations, live_bytes, resident_bytes};
use crate::workload::Workload;

const LOOKUPS: usize = 40_000;
/// Changes are handed over in events of a few blocks together, so that those under way are small.
const BLOCKS_UNDER_WAY: usize = 1_000;

pub fn quantile(values: &mut [f64], fraction: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(fraction * values.len() as f64) as usize]
}

fn processor_seconds(clock: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a local that outlives the call.
    assert_eq!(unsafe { libc::clock_gettime(clock, &mut time) }, 0);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

pub fn thread_seconds() -> f64 {
    processor_seconds(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Processor time of all threads but this one.
pub fn other_threads_seconds() -> f64 {
    processor_seconds(libc::CLOCK_PROCESS_CPUTIME_ID) - thread_seconds()
}

fn stores(workload: &Workload) -> Vec<Change> {
    (0..workload.events.len()).map(Change::Store).collect()
}

fn removals(workload: &Workload) -> Vec<Change> {
    (0..workload.events.len()).rev().map(Change::Remove).collect()
}

/// Asks every request at least once, and at least `count`; everything asked was stored.
fn ask_all<Index: PeerIndex>(index: &Index, input: &Index::Input, count: usize) -> Vec<f64> {
    let lengths: Vec<usize> = Index::workload(input).lookups().map(<[u64]>::len).collect();
    (0..count.max(lengths.len()))
        .map(|i| {
            let number = i % lengths.len();
            let lookup = index.lookup(input, number);
            assert_eq!(lookup.depth, lengths[number], "a match is wrong");
            lookup.nanoseconds
        })
        .collect()
}

pub fn speed<Index: PeerIndex>(workload: Workload, rounds: usize) -> String {
    let input = Index::prepare(workload);
    let workload = Index::workload(&input);
    let holders = workload.block_holders() as f64;
    let (mut storing, mut removing, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut index = Index::create(workload.slots());
        storing.push(index.write(&input, &stores(workload)));
        if round == 0 {
            ask_all(&index, &input, LOOKUPS / 10);
            times = ask_all(&index, &input, LOOKUPS);
        }
        removing.push(index.write(&input, &removals(workload)));
        assert_eq!(index.held(), 0, "a removal is wrong");
    }
    let mut timer: Vec<f64> = (0..LOOKUPS)
        .map(|_| {
            let begin = Instant::now();
            begin.elapsed().as_nanos() as f64
        })
        .collect();
    format!(
        "{{\"lookup_p50_ns\": {}, \"lookup_p99_ns\": {}, \"timer_ns\": {}, \"store_mps\": {}, \
         \"remove_mps\": {}}}",
        quantile(&mut times, 0.5),
        quantile(&mut times, 0.99),
        quantile(&mut timer, 0.5),
        holders / quantile(&mut storing, 0.5) * 1e-6,
        holders / quantile(&mut removing, 0.5) * 1e-6,
    )
}

/// Makes the changes a few blocks at a time.
fn write_in_parts<Index: PeerIndex>(index: &mut Index, input: &Index::Input, changes: &[Change]) {
    let workload = Index::workload(input);
    let mut part = Vec::with_capacity(BLOCKS_UNDER_WAY);
    let mut blocks = 0;
    for &change in changes {
        let (Change::Store(event) | Change::Remove(event)) = change;
        part.push(change);
        blocks += workload.names(event).len();
        if blocks >= BLOCKS_UNDER_WAY {
            index.write(input, &part);
            part.clear();
            blocks = 0;
        }
    }
    index.write(input, &part);
}

pub fn memory<Index: PeerIndex>(workload: Workload) -> String {
    let input = Index::prepare(workload);
    let workload = Index::workload(&input);
    let holders = workload.block_holders() as f64;
    let (storing, removing) = (stores(workload), removals(workload));
    count_allocations();
    let (live, resident) = (live_bytes(), resident_bytes());
    let mut index = Index::create(workload.slots());
    write_in_parts(&mut index, &input, &storing);
    let (live_full, resident_full) = (live_bytes() - live, resident_bytes() - resident);
    assert_eq!(index.held(), workload.block_holders(), "a store is wrong");
    ask_all(&index, &input, 0);
    write_in_parts(&mut index, &input, &removing);
    format!(
        "{{\"live\": {}, \"resident\": {}, \"live_left\": {}, \"resident_left\": {}}}",
        live_full as f64 / holders,
        resident_full as f64 / holders,
        (live_bytes() - live) as f64 / holders,
        (resident_bytes() - resident) as f64 / holders,
    )
}

/// One thread stores the second half of the events and removes it again, `rounds` times at full
/// speed; this one asks the requests that the first half answers whole meanwhile, so each must be
/// answered whole at every moment.
pub fn writer<Index: PeerIndex>(workload: Workload, rounds: usize) -> Result<String, String> {
    let input = Arc::new(Index::prepare(workload));
    let workload = Index::workload(&input);
    let half = workload.events.len() / 2;
    let mut index = Index::create(workload.slots());
    index.write(&input, &stores(workload)[..half]);
    let whole: Vec<(usize, usize)> = workload
        .lookups()
        .map(<[u64]>::len)
        .enumerate()
        .filter(|&(number, length)| index.lookup(&input, number).depth == length)
        .collect();
    let mut changes = Vec::new();
    for _ in 0..rounds {
        changes.extend_from_slice(&stores(workload)[half..]);
        changes.extend_from_slice(&removals(workload)[..workload.events.len() - half]);
    }
    let once: usize = (half..workload.events.len()).map(|event| workload.names(event).len()).sum();
    let mut times = Vec::with_capacity(1 << 24); // not while it is measured
    let processor = other_threads_seconds();
    let Some((begin, writing)) = index.start_writer(&input, changes) else {
        return Err("this index is not concurrent".into());
    };
    for &(number, length) in whole.iter().cycle() {
        if writing.is_finished() {
            break;
        }
        let lookup = index.lookup(&input, number);
        assert_eq!(lookup.depth, length, "a match beside the writer is wrong");
        times.push(lookup.nanoseconds);
    }
    let seconds = begin.elapsed().as_secs_f64();
    writing.join().map_err(|_| "the writer failed")?;
    let busy = other_threads_seconds() - processor;
    let written = (2 * once * rounds) as f64 * 1e-6;
    Ok(format!(
        "{{\"reader_p50_ns\": {}, \"reader_p99_ns\": {}, \"lookups\": {}, \"written_mps\": {}, \
         \"written_busy_mps\": {}}}",
        quantile(&mut times, 0.5),
        quantile(&mut times, 0.99),
        times.len(),
        written / seconds,
        written / busy,
    ))
}
