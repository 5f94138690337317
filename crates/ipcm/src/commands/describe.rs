// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm describe`: what a service says of itself.

use ipc_manager::Description;

use crate::commands::asking::handle;
use crate::context::Context;
use crate::escape::escaped;
use crate::exit_code;
use crate::failure::Outcome;
use crate::output::table;
use crate::service_args::DescribeArgs;

pub(crate) fn run(context: &mut Context, args: &DescribeArgs) -> Outcome {
    let mut handle = handle(context, &args.bus, &args.name, &args.service)?;
    let description = handle.describe(&args.service, Some(args.timeout))?;
    context.out.either(&description, || text(&description))?;
    Ok(exit_code::DONE)
}

fn text(description: &Description) -> String {
    let row = |key: &str, value: &str| vec![key.to_owned(), escaped(value)];
    let mut rows = vec![row("name", &description.name), row("pid", &description.pid.to_string())];
    let said = [("version", &description.version), ("about", &description.about)];
    rows.extend(said.into_iter().filter_map(|(key, value)| Some(row(key, value.as_deref()?))));
    for method in &description.methods {
        let about = method.about.as_deref().map_or(String::new(), |about| format!(": {about}"));
        rows.push(row("method", &format!("{}{about}", method.name)));
        let schemas = [("  request", &method.request), ("  response", &method.response)];
        rows.extend(schemas.into_iter().filter_map(|(key, schema)| Some(row(key, &schema.as_ref()?.to_string()))));
    }
    table(&rows)
}
