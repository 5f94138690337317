// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzing with the stable compiler: a corpus that is read first, inputs that are made from it, and a budget.
//!
//! A run in a test makes the same few inputs each time. With `IPCM_FUZZ_SECONDS` each target goes on for so long, with
//! other inputs in each run; `cargo xtask fuzz` sets it. An input that fails is made small and put into the corpus.

mod memory;
mod mutation;

use std::cell::Cell;
use std::fmt::{Debug, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};

pub use memory::{Counting, peak_of};

/// How many seconds each target goes on.
const SECONDS: &str = "IPCM_FUZZ_SECONDS";
/// Inputs between two looks at the clock.
const ROUND: u32 = 64;

/// The budget of a run that is no test but a search; none in a test.
#[must_use]
pub fn seconds() -> Option<u64> {
    std::env::var(SECONDS).ok()?.parse().ok()
}

/// Something that reads what it must not trust.
///
/// ```
/// use ipc_manager_testkit::{Sandbox, fuzz::{Counting, Fuzz}};
/// #[global_allocator]
/// static ALLOCATOR: Counting = Counting;
/// let corpus = Sandbox::new(); // in a repository: a folder with a folder for each target
/// Fuzz::new(corpus.dir(), "numbers").seed("17").bytes(|input| {
///     if let Ok(number) = str::from_utf8(input).unwrap_or_default().parse::<u8>() {
///         assert_eq!(number.to_string().parse(), Ok(number));
///     }
/// });
/// ```
#[derive(Debug)]
pub struct Fuzz {
    folder: PathBuf,
    seeds: Vec<Vec<u8>>,
    cases: u32,
    memory: usize,
    memory_each: usize,
}

impl Fuzz {
    /// A target whose corpus is in the folder of this name: a file for each input.
    #[must_use]
    pub fn new(corpus: impl Into<PathBuf>, target: &str) -> Self {
        let folder = corpus.into().join(target);
        Self { folder, seeds: Vec::new(), cases: 256, memory: 1 << 20, memory_each: 64 }
    }

    /// Adds a sound input, which others are made from.
    #[must_use]
    pub fn seed(mut self, seed: impl Into<Vec<u8>>) -> Self {
        self.seeds.push(seed.into());
        self
    }

    /// How many inputs a test makes.
    #[must_use]
    pub fn cases(mut self, cases: u32) -> Self {
        self.cases = cases;
        self
    }

    /// How many bytes of memory the check may hold at once, and how many more for each byte of input.
    #[must_use]
    pub fn memory(mut self, bytes: usize, each: usize) -> Self {
        (self.memory, self.memory_each) = (bytes, each);
        self
    }

    /// Checks bytes: the corpus, then what is made from it and the seeds by changing them. The program must have
    /// [`Counting`] as its allocator.
    ///
    /// # Panics
    /// If the check does, or holds more memory than it may.
    pub fn bytes(mut self, check: impl Fn(&[u8])) {
        assert!(peak_of(|| vec![1_u8; 999].len()).1 >= 999, "this program does not count its memory");
        let check = |input: &[u8]| {
            let ((), peak) = peak_of(|| check(input));
            let most = self.memory + self.memory_each * input.len();
            assert!(peak <= most, "{peak} bytes of memory were held for an input of {} bytes", input.len());
        };
        let corpus = self.corpus();
        corpus.iter().for_each(|(_, input)| check(input));
        self.seeds.iter().for_each(|input| check(input));
        let mut seeds = std::mem::take(&mut self.seeds);
        seeds.extend(corpus.into_iter().map(|(_, input)| input));
        seeds.push(Vec::new());
        self.search(&mutation::of(seeds), |input| smaller(input, &check), |input| check(&input));
    }

    /// Checks what a strategy makes, and that can be written down: the corpus, then more.
    ///
    /// # Panics
    /// If the check does, or the corpus cannot be read.
    pub fn texts<T: Debug + Display + FromStr<Err: Debug>>(
        self,
        strategy: &impl Strategy<Value = T>,
        check: impl Fn(T),
    ) {
        for (name, input) in self.corpus() {
            let text = String::from_utf8(input).expect("this corpus is text");
            check(text.parse().unwrap_or_else(|error| panic!("{name} in the corpus: {error:?}")));
        }
        self.search(strategy, |value| value.to_string().into_bytes(), check);
    }

    /// The names and contents of the files in the corpus.
    fn corpus(&self) -> Vec<(String, Vec<u8>)> {
        let listed = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut files: Vec<_> = listed.map(|entry| entry.path()).collect();
        files.sort();
        let read = |path: PathBuf| (path.display().to_string(), std::fs::read(path).expect("the corpus can be read"));
        files.into_iter().map(read).collect()
    }

    fn search<T: Debug>(
        &self,
        strategy: &impl Strategy<Value = T>,
        written: impl Fn(&T) -> Vec<u8>,
        check: impl Fn(T),
    ) {
        let until = seconds().map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let cases = if until.is_some() { ROUND.min(self.cases) } else { self.cases };
        // The same inputs in each run of a test: what it finds, it finds for everybody.
        let rng_seed = if until.is_some() { RngSeed::Random } else { RngSeed::Fixed(1) };
        let config = Config {
            cases,
            rng_seed,
            failure_persistence: None,
            max_shrink_iters: 4_096,
            max_shrink_time: 60_000,
            ..Config::default()
        };
        let count = Cell::new(0_u64);
        loop {
            // A runner that has run does nothing any more.
            let found = TestRunner::new(config.clone()).run(strategy, |value| {
                count.set(count.get() + 1);
                check(value);
                Ok(())
            });
            match found {
                Ok(()) => {}
                Err(TestError::Fail(reason, input)) => {
                    let kept = self.keep(&written(&input));
                    panic!("{reason}\nan input that fails is in {}: {input:?}", kept.display());
                }
                Err(TestError::Abort(reason)) => panic!("no inputs could be made: {reason}"),
            }
            if until.is_none_or(|until| Instant::now() >= until) {
                break;
            }
        }
        if until.is_some() {
            println!("{}: {} inputs", self.folder.display(), count.get());
        }
    }

    /// Puts an input into the corpus.
    fn keep(&self, input: &[u8]) -> PathBuf {
        // FNV-1a: the same input has the same name.
        let hash = input
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        let path = self.folder.join(format!("failed-{hash:016x}"));
        let kept = std::fs::create_dir_all(&self.folder).and_then(|()| std::fs::write(&path, input));
        if let Err(error) = kept {
            eprintln!("{} cannot be written: {error}", path.display());
        }
        path
    }
}

/// What is left of a failing input when all is taken out that it fails without.
fn smaller(input: &[u8], check: &impl Fn(&[u8])) -> Vec<u8> {
    let fails = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| check(input))).is_err();
    let (mut input, mut tries) = (input.to_vec(), 2_000);
    let mut length = input.len() / 2;
    while length > 0 {
        let mut at = 0;
        while at + length <= input.len() && tries > 0 {
            tries -= 1;
            let without = [&input[..at], &input[at + length..]].concat();
            if fails(&without) { input = without } else { at += length }
        }
        length /= 2;
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sandbox;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    fn failure(run: impl FnOnce()) -> String {
        let panicked = catch_unwind(AssertUnwindSafe(run)).expect_err("the check must fail");
        *panicked.downcast::<String>().expect("it says why")
    }

    #[test]
    fn each_input_of_the_corpus_comes_first_and_what_fails_is_added_small() {
        let corpus = Sandbox::new();
        let seen = Cell::new(0);
        let fuzz = || Fuzz::new(corpus.dir(), "t").seed("a sound input with an x in it").cases(40);
        fuzz().bytes(|_| seen.set(seen.get() + 1));
        assert!(seen.get() >= 40, "{}", seen.get());
        let said = failure(|| fuzz().bytes(|input| assert!(input.contains(&b'x') || input.len() < 9, "no x")));
        assert!(said.contains("no x"), "{said}");
        let kept = std::fs::read_dir(corpus.dir().join("t")).unwrap().next().unwrap().unwrap().path();
        let kept = std::fs::read(kept).unwrap();
        assert!(kept.len() == 9 && !kept.contains(&b'x'), "{kept:?}");
        let first = failure(|| fuzz().bytes(|input| panic!("{input:?}")));
        assert_eq!(first, format!("{kept:?}"));
    }

    #[test]
    fn memory_that_grows_with_a_claim_is_seen() {
        let corpus = Sandbox::new();
        let fuzz = Fuzz::new(corpus.dir(), "t").memory(1 << 10, 1).seed("9").cases(1);
        let said = failure(|| fuzz.bytes(|input| drop(vec![0_u8; input.len() * 5_000])));
        assert!(said.contains("bytes of memory were held for an input of 1 bytes"), "{said}");
    }
}
