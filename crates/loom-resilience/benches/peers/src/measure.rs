//! Timing in samples, and the table.

use std::{
    hint::black_box,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

const SAMPLE: Duration = Duration::from_millis(2);
const SAMPLES: usize = 75;

/// Rows measured so far.
#[derive(Default)]
pub struct Table(Vec<Row>);

struct Row {
    part: &'static str,
    who: &'static str,
    one: f64,
    two: f64,
    allocations: f64,
    bytes: f64,
}

/// Runs so many operations and answers how long they took.
trait Batch: Fn(u64) -> Duration + Sync {}

impl<F: Fn(u64) -> Duration + Sync> Batch for F {}

impl Table {
    /// A plain call. It must answer `true`, so that a row cannot measure the wrong outcome.
    pub fn sync(&mut self, part: &'static str, who: &'static str, work: impl Fn() -> bool + Sync) {
        assert!(work(), "{part}, {who}: not the outcome that is measured");
        let batch = |count| {
            let start = Instant::now();
            for _ in 0..count {
                black_box(work());
            }
            start.elapsed()
        };
        self.row(part, who, batch);
    }

    /// An async call, many of them in one `block_on`.
    pub fn future(&mut self, part: &'static str, who: &'static str, work: impl AsyncFn() -> bool + Sync) {
        let batch = |count| {
            runtime().block_on(async {
                assert!(work().await, "{part}, {who}: not the outcome that is measured");
                let start = Instant::now();
                for _ in 0..count {
                    black_box(work().await);
                }
                start.elapsed()
            })
        };
        self.row(part, who, batch);
    }

    /// A tower service, of which each thread has a clone.
    pub fn service<S>(&mut self, part: &'static str, who: &'static str, service: &S)
    where
        S: tower::Service<u32> + Clone + Sync,
    {
        let batch = |count| {
            let mut service = service.clone();
            runtime().block_on(async {
                assert!(crate::ask(&mut service).await, "{part}, {who}: not the outcome that is measured");
                let start = Instant::now();
                for _ in 0..count {
                    black_box(crate::ask(&mut service).await);
                }
                start.elapsed()
            })
        };
        self.row(part, who, batch);
    }

    fn row(&mut self, part: &'static str, who: &'static str, batch: impl Batch) {
        let mut count = 64;
        while batch(count) < SAMPLE {
            count *= 2;
        }
        let nanos = |time: Duration| time.as_nanos() as f64 / count as f64;
        let one = lowest_tenth((0..SAMPLES).map(|_| nanos(batch(count))).collect());
        let two = median(
            (0..SAMPLES / 5)
                .flat_map(|_| together(&batch, count * 8))
                .map(|time| nanos(time) / 8.0)
                .collect(),
        );
        // Two sizes, so that what the runtime allocates for itself falls out.
        let (few, many) = (allocated(&batch, 1_000), allocated(&batch, 11_000));
        let each = |few: u64, many: u64| (many as f64 - few as f64) / 10_000.0;
        let allocations = each(few.0, many.0);
        let bytes = each(few.1, many.1);
        eprintln!("{part:<34} {who:<62} {one:>8.1} {two:>8.1} {allocations:>5.1}");
        self.0.push(Row { part, who, one, two, allocations, bytes });
    }

    /// Prints the table in Markdown.
    pub fn print(&self) {
        println!("| what | who | 1 thread, ns | 2 threads, ns | allocations | bytes |");
        println!("| --- | --- | ---: | ---: | ---: | ---: |");
        let mut last = "";
        for row in &self.0 {
            let part = if row.part == last { "" } else { row.part };
            last = row.part;
            let Row { who, one, two, allocations, bytes, .. } = row;
            println!("| {part} | {who} | {one:.1} | {two:.1} | {allocations:.0} | {bytes:.0} |");
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

fn allocated(batch: &impl Batch, count: u64) -> (u64, u64) {
    let info = allocation_counter::measure(|| {
        batch(count);
    });
    (info.count_total, info.bytes_total)
}

/// Two threads that begin together.
fn together(batch: &impl Batch, count: u64) -> [Duration; 2] {
    let barrier = Barrier::new(2);
    let run = || {
        barrier.wait();
        batch(count)
    };
    thread::scope(|scope| {
        let other = scope.spawn(run);
        let mine = run();
        [mine, other.join().expect("the other thread")]
    })
}

/// The sample that a tenth of all lie below: close to an undisturbed machine, without trusting a single one.
fn lowest_tenth(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 10]
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
