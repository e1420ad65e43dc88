//! The measurements, each for one index and one workload in a process of its own.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crate::index::{Change, ConcurrentIndex, PeerIndex, PeerInput};
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

/// The bijection of benchmarks/cpp/label_mixing.h.
fn mix(number: u64) -> u64 {
    let x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn stores(workload: &Workload) -> Vec<Change> {
    (0..workload.events.len()).map(Change::Store).collect()
}

fn removals(workload: &Workload) -> Vec<Change> {
    (0..workload.events.len()).rev().map(Change::Remove).collect()
}

/// Asks every request at least once, and at least `count`; everything asked was stored.
fn ask_all<Index: PeerIndex>(index: &Index, input: &Index::Input, count: usize) -> Vec<f64> {
    let lengths: Vec<usize> = input.workload().lookups().map(<[u64]>::len).collect();
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
    let input = Index::Input::prepare(workload);
    let workload = input.workload();
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
    let workload = input.workload();
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

/// Bytes per block and slot when all is stored and when all is removed again; and both once more
/// after `cycles` times the same with other names and labels.
pub fn memory<Index: PeerIndex>(workload: Workload, cycles: usize) -> String {
    let mut input = Index::Input::prepare(workload);
    let workload = input.workload();
    let (all, slots) = (workload.block_holders(), workload.slots());
    let (storing, removing) = (stores(workload), removals(workload));
    count_allocations();
    let (live, resident) = (live_bytes(), resident_bytes());
    let bytes = |suffix: &str| {
        let each = |bytes: isize| bytes as f64 / all as f64;
        let (live, resident) = (each(live_bytes() - live), each(resident_bytes() - resident));
        format!("\"live{suffix}\": {live}, \"resident{suffix}\": {resident}")
    };
    let mut index = Index::create(slots);
    let mut figures = Vec::with_capacity(4);
    write_in_parts(&mut index, &input, &storing);
    figures.push(bytes(""));
    assert_eq!(index.held(), all, "a store is wrong");
    ask_all(&index, &input, 0);
    write_in_parts(&mut index, &input, &removing);
    figures.push(bytes("_left"));
    for cycle in 1..=cycles {
        input.relabel(mix(cycle as u64));
        write_in_parts(&mut index, &input, &storing);
        if cycle == cycles {
            figures.push(bytes("_cycled"));
            assert_eq!(index.held(), all, "a store is wrong");
        }
        write_in_parts(&mut index, &input, &removing);
    }
    if cycles > 0 {
        figures.push(bytes("_cycled_left"));
    }
    format!("{{{}}}", figures.join(", "))
}

/// One thread stores the second half of the events and removes it again, `rounds` times at full
/// speed; `readers` others ask the requests that the first half answers whole meanwhile, so each
/// must be answered whole at every moment.
pub fn readers<Index: ConcurrentIndex>(
    workload: Workload,
    rounds: usize,
    readers: usize,
) -> Result<String, String> {
    let input = Arc::new(Index::Input::prepare(workload));
    let workload = input.workload();
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
    // Not while it is measured.
    let buffers: Vec<Vec<f64>> = (0..readers).map(|_| Vec::with_capacity(1 << 24)).collect();
    let processor = other_threads_seconds();
    let (begin, writing) = index.start_writer(&input, changes);
    let (index, whole, written) = (&index, &whole, &AtomicBool::new(false));
    let read = |reader: usize, mut times: Vec<f64>| {
        let processor = thread_seconds();
        for &(number, length) in whole.iter().cycle().skip(reader * whole.len() / readers) {
            if written.load(Relaxed) {
                break;
            }
            let lookup = index.lookup(&input, number);
            assert_eq!(lookup.depth, length, "a match beside the writer is wrong");
            times.push(lookup.nanoseconds);
        }
        (times, thread_seconds() - processor)
    };
    let read = &read;
    let (seconds, answers) = thread::scope(|scope| {
        let start = |(reader, times)| scope.spawn(move || read(reader, times));
        let reading: Vec<_> = buffers.into_iter().enumerate().map(start).collect();
        let end = writing.join();
        let seconds = begin.elapsed().as_secs_f64();
        written.store(true, Relaxed);
        let answers: Vec<_> = reading.into_iter().map(|reader| reader.join()).collect();
        end.map(|()| (seconds, answers))
    })
    .map_err(|_| "the writer failed")?;
    let mut busy = other_threads_seconds() - processor;
    let mut times = Vec::new();
    for answer in answers {
        let (some, reading) = answer.map_err(|_| "a match beside the writer is wrong")?;
        times.extend(some);
        busy -= reading;
    }
    let blocks = (2 * once * rounds) as f64 * 1e-6;
    Ok(format!(
        "{{\"reader_p50_ns\": {}, \"reader_p99_ns\": {}, \"lookups_mps\": {}, \
         \"written_mps\": {}, \"written_busy_mps\": {}}}",
        quantile(&mut times, 0.5),
        quantile(&mut times, 0.99),
        times.len() as f64 / seconds * 1e-6,
        blocks / seconds,
        blocks / busy,
    ))
}
