//! A seeded simulation of live changes under load: random calls, ends, cancellations and policies on a manual clock.
//!
//! After every step the books are compared: calls in flight with the bulkhead, calls made with the strict window in force.
//! At the end, when no call is left, all permits, slots and probes are available again.
//!
//! In every other run calls also wait for the bulkhead. They are then made later than their permit was granted, so the window
//! is not compared in those.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use loom_resilience::{
    AllTransient, AttemptError, BreakerConfig, BulkheadConfig, CircuitState, Clock, Limit, LimiterConfig,
    ManualClock, OpenDuration, Pipeline, Policy, Window,
};

const PERIOD: Duration = Duration::from_secs(10);

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}

/// How a call ends.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Running,
    Succeeds,
    Fails,
}

/// One guarded attempt in flight.
type Attempted = dyn Future<Output = Result<(), AttemptError<&'static str>>>;

struct Job {
    future: Pin<Box<Attempted>>,
    fate: Rc<Cell<Fate>>,
    is_running: Rc<Cell<bool>>,
}

/// What the simulated service sees.
#[derive(Default)]
struct Books {
    /// When calls were made.
    made: RefCell<Vec<Duration>>,
    /// The permits of the window in force.
    permits: Cell<usize>,
    /// The limit of the bulkhead in force.
    slots: Cell<u32>,
    running: Cell<u32>,
    /// Whether calls are made when their permit is granted.
    is_exact: Cell<bool>,
    problem: RefCell<Option<String>>,
}

impl Books {
    fn note(&self, problem: String) {
        self.problem.borrow_mut().get_or_insert(problem);
    }

    /// A call reaches the service at `now`.
    fn call(&self, now: Duration) {
        let mut made = self.made.borrow_mut();
        made.push(now);
        let within = made.iter().filter(|at| now < **at + PERIOD).count();
        if self.is_exact.get() && within > self.permits.get() {
            self.note(format!("{within} calls within a window of {} permits", self.permits.get()));
        }
        self.running.set(self.running.get() + 1);
        if self.running.get() > self.slots.get() {
            self.note(format!("{} calls in {} slots", self.running.get(), self.slots.get()));
        }
    }
}

fn policy(permits: u32, slots: u32, queue: u32, window: Window, probes: u32) -> Policy {
    let limiter = LimiterConfig::new(Limit::window(permits, PERIOD)).queue(4).max_wait(PERIOD * 2);
    let breaker = BreakerConfig::new()
        .failure_threshold(3)
        .failure_rate(0.6, 5, window)
        .half_open(probes, 1)
        .probe_lease(PERIOD * 100)
        .open_for(OpenDuration::fixed(Duration::from_secs(2)));
    Policy::none().limiter(limiter).bulkhead(BulkheadConfig::new(slots).queue(queue)).breaker(breaker)
}

/// Runs one seed. `sabotage` is called for each call that is dropped before it reached the service.
fn simulate(seed: u64, sabotage: impl Fn(&Pipeline)) -> Option<String> {
    let mut random = Random(seed);
    let time = ManualClock::new();
    let books = Rc::new(Books::default());
    books.permits.set(5);
    books.slots.set(3);
    let queue = 4 * (seed % 2) as u32;
    books.is_exact.set(queue == 0);
    let start = policy(5, 3, queue, Window::Calls(10), 2);
    let pipeline: Rc<Pipeline> = Rc::new(Pipeline::new("storm", start, Clock::manual(&time), None).unwrap());
    let mut jobs: Vec<Job> = Vec::new();
    for _ in 0..400 {
        match random.below(10) {
            0..=3 => jobs.push(start_call(&pipeline, &books, &time)),
            4 | 5 if !jobs.is_empty() => {
                let job = &jobs[random.below(jobs.len() as u64) as usize];
                job.fate.set(if random.below(2) == 0 { Fate::Succeeds } else { Fate::Fails });
            }
            6 if !jobs.is_empty() => {
                let job = jobs.swap_remove(random.below(jobs.len() as u64) as usize);
                let was_running = job.is_running.get();
                drop(job.future);
                if was_running {
                    books.running.set(books.running.get() - 1);
                } else {
                    sabotage(&pipeline);
                }
            }
            7 | 8 => time.advance(Duration::from_millis(100 * random.below(40))),
            _ => {
                let permits = 1 + random.below(8) as u32;
                let slots = 1 + random.below(5) as u32;
                let window = match random.below(3) {
                    0 => Window::Calls(5 + random.below(20) as u32),
                    1 => Window::Time(Duration::from_secs(1 + random.below(60))),
                    _ => Window::Time(Duration::from_mins(10)),
                };
                pipeline
                    .reconfigure(policy(permits, slots, queue, window, 1 + random.below(3) as u32))
                    .unwrap();
                books.permits.set(permits as usize);
                books.slots.set(slots);
            }
        }
        poll_all(&mut jobs, &books);
        // A lowered limit of the bulkhead leaves those in flight; nothing else may differ from the books.
        if pipeline.bulkhead().in_flight() < books.running.get() {
            books.note("a call is in flight without a slot".to_owned());
        }
        if let Some(problem) = books.problem.borrow_mut().take() {
            return Some(problem);
        }
    }
    // All calls end, and nothing may be left.
    drop(jobs);
    let bulkhead = pipeline.bulkhead();
    if (bulkhead.in_flight(), bulkhead.waiting()) != (0, 0) {
        return Some(format!("{} slots lost, {} waiters lost", bulkhead.in_flight(), bulkhead.waiting()));
    }
    let status = pipeline.status();
    if status.breaker.probes_out != 0 || status.limiter.waiting != 0 {
        return Some(format!(
            "{} probes lost, {} waiters lost",
            status.breaker.probes_out, status.limiter.waiting
        ));
    }
    time.advance(PERIOD * 3);
    let now = time.now();
    if let Ok(admission) = pipeline.breaker().admit(now) {
        admission.success(now);
    }
    if pipeline.breaker().state() != CircuitState::Closed {
        return Some(format!("the circuit stays {}", pipeline.breaker().state()));
    }
    let all = books.permits.get() as u32;
    match pipeline.limiter().try_take(all, now) {
        Ok(()) => None,
        Err(refused) => Some(format!("a permit of {all} is lost: {refused}")),
    }
}

fn start_call(pipeline: &Rc<Pipeline>, books: &Rc<Books>, time: &ManualClock) -> Job {
    let fate = Rc::new(Cell::new(Fate::Running));
    let is_running = Rc::new(Cell::new(false));
    let future = {
        let (pipeline, books, time) = (Rc::clone(pipeline), Rc::clone(books), time.clone());
        let (fate, is_running) = (Rc::clone(&fate), Rc::clone(&is_running));
        async move {
            let work = || {
                books.call(Duration::from_nanos(time.now().as_nanos()));
                is_running.set(true);
                poll_fn(|_| match fate.get() {
                    Fate::Running => Poll::Pending,
                    Fate::Succeeds => Poll::Ready(Ok(())),
                    Fate::Fails => Poll::Ready(Err("503")),
                })
            };
            pipeline.attempt().classify(AllTransient).run(work).await
        }
    };
    Job { future: Box::pin(future), fate, is_running }
}

/// Polls everything until nothing changes: a call that ends may admit another.
fn poll_all(jobs: &mut Vec<Job>, books: &Books) {
    loop {
        let before = jobs.len();
        jobs.retain_mut(|job| {
            let polled = job.future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if polled.is_ready() && job.is_running.get() {
                books.running.set(books.running.get() - 1);
            }
            polled.is_pending()
        });
        if jobs.len() == before {
            return;
        }
    }
}

#[test]
fn nothing_is_lost_or_counted_twice_when_policies_change_under_load() {
    for seed in 0..300 {
        if let Some(problem) = simulate(seed, |_| {}) {
            panic!("seed {seed}: {problem}");
        }
    }
}

/// The control: each call that is dropped before it is made returns its permit twice. The simulation must detect this.
#[test]
fn the_simulation_finds_a_permit_that_is_returned_twice() {
    let found = (0..300).find_map(|seed| simulate(seed, |pipeline| pipeline.limiter().give_back(1)));
    let problem = found.unwrap();
    assert!(problem.contains("calls within a window of"), "{problem}");
}
