// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm doctor`: what on this machine will bite, each with its remedy.

use serde::Serialize;

use crate::context::Context;
use crate::doctor::{self, Examination, Machine, Severity};
use crate::escape::escaped;
use crate::exit_code;
use crate::failure::Outcome;

#[derive(Serialize)]
struct Document {
    problems: usize,
    warnings: usize,
    notes: usize,
    #[serde(flatten)]
    examination: Examination,
}

pub(crate) fn run(context: &mut Context) -> Outcome {
    let examination = doctor::examine(&Machine::own(), &context.registry);
    let count = |severity| examination.findings.iter().filter(|finding| finding.severity == severity).count();
    let (problems, warnings, notes) = (count(Severity::Problem), count(Severity::Warning), count(Severity::Note));
    let document = Document { problems, warnings, notes, examination };
    context.out.either(&document, || text(&document))?;
    Ok(if problems > 0 { exit_code::AUDIT } else { exit_code::DONE })
}

fn text(document: &Document) -> String {
    let mut text = String::new();
    for finding in &document.examination.findings {
        let severity = match finding.severity {
            Severity::Problem => "problem",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        text.push_str(&format!("{severity}: {}\n  remedy: {}\n", escaped(&finding.what), escaped(&finding.remedy)));
    }
    let Document { problems, warnings, notes, examination } = document;
    let checked = examination.checked.len();
    text.push_str(&format!("{checked} things looked at: {problems} problems, {warnings} warnings, {notes} notes\n"));
    text
}
