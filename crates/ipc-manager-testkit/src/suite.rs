// SPDX-License-Identifier: MIT OR Apache-2.0
//! Clauses times subjects, and tests beside them, under one harness.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use ipc_manager::Registry;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::engine::Act;
use crate::watchdog::Watched;
use crate::{Clause, Context, Sandbox, Subject, clauses, contract, engine, rows, torture};

/// A test beside the clauses, such as one of a protocol's own files.
///
/// ```standalone_crate
/// use ipc_manager_testkit::{Suite, Test};
/// fn main() -> std::process::ExitCode {
///     let there = Test::new("files::are_private", |sandbox| assert!(sandbox.dir().is_dir()));
///     let elsewhere = Test::new("files::fly", |_| unreachable!()).only_if(|| Err("not on this machine".to_owned()));
///     Suite::new(vec![]).tests(vec![there, elsewhere]).main()
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Test {
    pub(crate) name: String,
    pub(crate) run: fn(&Sandbox),
    pub(crate) can: fn() -> Result<(), String>,
}

impl Test {
    /// A test with a directory of its own. It runs under the same watchdog as the clauses.
    #[must_use]
    pub fn new(name: &str, run: fn(&Sandbox)) -> Self {
        Self { name: name.to_owned(), run, can: || Ok(()) }
    }

    /// Says whether this machine can run it. Where it cannot, it is shown as ignored, with the reason.
    #[must_use]
    pub fn only_if(mut self, can: fn() -> Result<(), String>) -> Self {
        self.can = can;
        self
    }
}

/// Makes a list of [`Test`]s out of functions of this module, named after it and them.
///
/// ```
/// mod files {
///     fn are_private(_: &ipc_manager_testkit::Sandbox) {}
///     pub fn tests() -> Vec<ipc_manager_testkit::Test> {
///         ipc_manager_testkit::tests![are_private]
///     }
/// }
/// assert_eq!(files::tests().len(), 1);
/// ```
#[macro_export]
macro_rules! tests {
    ($($run:ident),* $(,)?) => {{
        // Without the name of the program itself.
        let module = module_path!().split_once("::").map_or(String::new(), |(_, within)| format!("{within}::"));
        vec![$($crate::Test::new(&format!("{module}{}", stringify!($run)), $run)),*]
    }};
}

/// Clauses times subjects, and what is to be tested beside them.
///
/// ```standalone_crate
/// use ipc_manager_testkit::{Suite, Test};
/// /// The whole of a test program with `harness = false`; with subjects, it runs every clause over each.
/// fn main() -> std::process::ExitCode {
///     let private = Test::new("files::are_private", |sandbox| assert!(sandbox.dir().is_dir()));
///     Suite::new(vec![]).tests(vec![private]).main()
/// }
/// ```
#[derive(Debug, Default)]
pub struct Suite {
    subjects: Vec<Subject>,
    tests: Vec<Test>,
    acts: Vec<Act>,
    contract: Option<PathBuf>,
    covers: Option<Registry>,
}

impl Suite {
    /// All clauses over these subjects.
    #[must_use]
    pub fn new(subjects: Vec<Subject>) -> Self {
        Self { subjects, ..Self::default() }
    }

    /// Adds tests.
    #[must_use]
    pub fn tests(mut self, tests: Vec<Test>) -> Self {
        self.tests.extend(tests);
        self
    }

    /// Adds something to do in a process of its own, started by [`Suite::command`].
    #[must_use]
    pub fn act(mut self, name: &'static str, play: fn() -> ExitCode) -> Self {
        self.acts.push(Act { name, play });
        self
    }

    /// This program, to be started for an act. It does not outlive the thread that starts it.
    #[must_use]
    pub fn command(act: &str) -> Command {
        engine::program(&format!("act:{act}"))
    }

    /// Adds a test that this file holds the contract of the subjects.
    #[must_use]
    pub fn contract(mut self, file: impl Into<PathBuf>) -> Self {
        self.contract = Some(file.into());
        self
    }

    /// Adds a test that each protocol of the registry is among the subjects.
    #[must_use]
    pub fn covering(mut self, registry: Registry) -> Self {
        self.covers = Some(registry);
        self
    }

    /// Runs what the command line asks for, or plays the role that this process was started for.
    #[must_use]
    pub fn main(self) -> ExitCode {
        if let Some(code) = engine::play(&self.subjects, &self.acts) {
            return code;
        }
        if let Some(code) = torture::command(&self.subjects).or_else(|| rows::command(&self.subjects, &self.tests)) {
            return code;
        }
        let arguments = Arguments::from_args();
        let mut trials = Vec::new();
        for subject in &self.subjects {
            trials.extend(clauses().into_iter().filter_map(|clause| conformance(subject, clause)));
        }
        trials.extend(self.about_itself());
        trials.extend(self.tests.into_iter().map(|test| {
            let trial = watched(&test.name, move || {
                (test.run)(&Sandbox::new());
                Ok(())
            });
            match (test.can)() {
                Ok(()) => trial,
                Err(reason) => trial.with_kind(reason).with_ignored_flag(true),
            }
        }));
        libtest_mimic::run(&arguments, trials).exit_code()
    }

    /// Tests of the suite itself and of its results.
    fn about_itself(&self) -> Vec<Trial> {
        let mut trials = vec![watched("suite::clauses_are_unique_and_say_something", || sound(&clauses()))];
        if let Some(registry) = self.covers.clone() {
            let subjects = self.subjects.clone();
            trials.push(watched("suite::each_protocol_has_a_subject", move || covered(&registry, &subjects)));
        }
        if let Some(file) = self.contract.clone() {
            let subjects = self.subjects.clone();
            trials.push(watched("suite::the_contract_is_up_to_date", move || Ok(contract::check(&subjects, &file)?)));
        }
        trials
    }
}

/// Runs all clauses over these subjects: the whole of a `main` function.
#[must_use]
pub fn main(subjects: Vec<Subject>) -> ExitCode {
    Suite::new(subjects).main()
}

/// One clause over one subject, if it applies. Where it does not is no test that was skipped: the contract says why, and
/// a capability that is not claimed has a clause of its own.
fn conformance(subject: &Subject, clause: &'static Clause) -> Option<Trial> {
    if clause.not_applicable(&subject.capabilities()).is_some() || !subject.claims(clause.id) {
        return None;
    }
    let name = format!("{}::{}", subject.name(), clause.id.replace('.', "::"));
    let subject = subject.clone();
    let can_run = subject.can_run();
    let trial = watched(&name, move || {
        (clause.run)(&Context::new(&subject));
        Ok(())
    });
    Some(match can_run {
        Ok(()) => trial,
        Err(reason) => trial.with_kind(reason).with_ignored_flag(true),
    })
}

fn watched(name: &str, run: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    let watched = name.to_owned();
    Trial::test(name, move || {
        let _watched = Watched::new(&watched);
        run()
    })
}

fn sound(clauses: &[&Clause]) -> Result<(), Failed> {
    let mut seen = BTreeSet::new();
    for clause in clauses {
        let named = clause.id.split_once('.').is_some_and(|(theme, name)| !theme.is_empty() && !name.is_empty());
        if !named || !seen.insert(clause.id) {
            return Err(format!("the id {:?} is not `theme.name`, or not unique", clause.id).into());
        }
        if clause.text.len() < 20
            || !clause.text.ends_with('.')
            || clause.text.contains('|')
            || clause.source.is_empty()
        {
            return Err(format!("{} needs a sentence and a source", clause.id).into());
        }
    }
    Ok(())
}

fn covered(registry: &Registry, subjects: &[Subject]) -> Result<(), Failed> {
    for protocol in registry.protocols() {
        if !subjects.iter().any(|subject| subject.protocol_name() == protocol.name()) {
            return Err(format!("{} is in the registry and has no subject", protocol.name().short()).into());
        }
    }
    Ok(())
}
