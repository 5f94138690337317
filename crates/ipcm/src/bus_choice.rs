// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which bus a command works on, and under which name.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use ipc_manager::serializer::SerializerSpec;
use ipc_manager::{ConnectionString, Error, ErrorKind, Group, Registry, Route};

use crate::args::{BusArgs, NameArgs};
use crate::failure::{Failure, Outcome};

/// The variable that holds the bus.
pub(crate) const BUS_VARIABLE: &str = "IPCM_BUS";
/// The variable that holds the name.
pub(crate) const NAME_VARIABLE: &str = "IPCM_NAME";
/// The variable that holds the group that shares the bus.
pub(crate) const GROUP_VARIABLE: &str = "IPCM_GROUP";
/// Longest connection string that is read from a file, in bytes; the library's own limit is the same.
const FILE_BYTES: u64 = 64 << 10;

/// The name to join under, and whether somebody chose it.
#[derive(Debug, Clone)]
pub(crate) struct NameChoice {
    /// The name.
    pub(crate) name: String,
    /// Whether it was asked for, so that a mailbox under it may be waited for.
    pub(crate) chosen: bool,
}

impl NameChoice {
    /// A name that nobody chose.
    pub(crate) fn of_this_process() -> Self {
        Self { name: format!("ipcm-{}", std::process::id()), chosen: false }
    }
}

/// Finds the bus: on the command line, in a file, or in the environment.
pub(crate) fn bus(args: &BusArgs, registry: &Registry) -> Outcome<ConnectionString> {
    let text = if let Some(bus) = &args.bus {
        bus.clone()
    } else if let Some(file) = &args.bus_file {
        from_file(file)?
    } else if let Some(bus) = variable(BUS_VARIABLE)? {
        bus
    } else {
        let failure = Failure::told("no_such_bus", crate::exit_code::BUS, "no bus was given");
        return Err(failure.hint("set IPCM_BUS, or give --bus or --bus-file; `ipcm spawn` makes a bus"));
    };
    Ok(parse(&text, args.serializer.as_deref(), registry)?)
}

/// Whether a bus was given anywhere.
pub(crate) fn is_chosen(args: &BusArgs) -> bool {
    let in_environment = || env::var_os(BUS_VARIABLE).is_some_and(|value| !value.is_empty());
    args.bus.is_some() || args.bus_file.is_some() || in_environment()
}

/// The name to join under.
pub(crate) fn name(args: &NameArgs) -> Outcome<NameChoice> {
    Ok(match args.name.clone().map_or_else(|| variable(NAME_VARIABLE), |name| Ok(Some(name)))? {
        Some(name) => NameChoice { name, chosen: true },
        None => NameChoice::of_this_process(),
    })
}

/// The group that shares the bus, if there is one.
pub(crate) fn group(argument: Option<&str>) -> Outcome<Option<Group>> {
    let name = argument.map_or_else(|| variable(GROUP_VARIABLE), |name| Ok(Some(name.to_owned())))?;
    Ok(name.map(|name| Group::new(&name)).transpose()?)
}

/// Tells a command that is started of the bus, by its environment: not by arguments, which everybody can see.
pub(crate) fn tell(command: &mut Command, bus: &ConnectionString, group: Option<Group>) {
    command.env(BUS_VARIABLE, bus.to_string());
    match group {
        Some(group) => command.env(GROUP_VARIABLE, group.to_string()),
        None => command.env_remove(GROUP_VARIABLE),
    };
}

/// A variable of the environment; an empty one counts as none.
fn variable(name: &str) -> Outcome<Option<String>> {
    let Some(value) = env::var_os(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    value.into_string().map(Some).map_err(|_| Failure::usage(format!("{name} in the environment is not UTF-8")))
}

fn from_file(file: &Path) -> Outcome<String> {
    let unreadable = |error: &std::io::Error| {
        let failure = Failure::io(format!("the file {} of --bus-file cannot be read", file.display()), error);
        failure.exit(crate::exit_code::BUS)
    };
    let mut text = String::new();
    File::open(file)
        .and_then(|opened| opened.take(FILE_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| unreadable(&error))?;
    Ok(text)
}

/// Understands a connection string, in full or in short.
fn parse(text: &str, serializer: Option<&str>, registry: &Registry) -> Result<ConnectionString, Error> {
    let text = text.trim();
    // What is neither an array nor short may still be JSON of another kind, and the library says so best.
    let Some((scheme, rest)) = text.split_once(':').filter(|_| !text.starts_with(['[', '{', '"'])) else {
        return ConnectionString::parse(text);
    };
    // The URL of a server is a route as a whole, and its scheme may be short for the protocol.
    let is_like_url = rest.starts_with("//") && !scheme.is_empty();
    let scheme_lower = scheme.to_ascii_lowercase();
    let meant = registry.protocols().find_map(|protocol| {
        let (name, is_url) = (protocol.name(), is_like_url && protocol.capabilities().credentials);
        let known = name.short().to_ascii_lowercase();
        (known == scheme_lower || is_url && known.starts_with(&scheme_lower)).then_some((name, is_url))
    });
    let Some((protocol, is_url)) = meant else {
        return Err(registry.get(scheme).err().unwrap_or_else(|| {
            Error::new(ErrorKind::UnknownProtocol, format!("there is no protocol called {scheme}"))
        }));
    };
    let serializer = match serializer {
        Some(name) => serializer_named(name, registry)?,
        None => registry.serializers().default_spec(),
    };
    let route =
        Route::new(if is_url { text } else { rest }).map_err(|error| error.with_kind(ErrorKind::InvalidInfo))?;
    Ok(ConnectionString::new(protocol, serializer, route))
}

/// A serializer as a user spells it; the case of letters does not matter for those that are known.
pub(crate) fn serializer_named(name: &str, registry: &Registry) -> Result<SerializerSpec, Error> {
    let known = registry.serializers().names();
    let spelled = known.iter().find(|known| known.eq_ignore_ascii_case(name.trim()));
    SerializerSpec::from_name(spelled.map_or(name, String::as_str))
}

/// A protocol as a user spells it; the case of letters does not matter.
///
/// # Errors
/// [`ErrorKind::UnknownProtocol`], naming the known ones.
pub(crate) fn protocol_named(name: &str, registry: &Registry) -> Result<String, Error> {
    let known = registry.names();
    if let Some(known) = known.iter().find(|known| known.eq_ignore_ascii_case(name.trim())) {
        return Ok(known.clone());
    }
    registry.get(name.trim()).map(|protocol| protocol.name().short())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, serializer: Option<&str>) -> String {
        match parse(text, serializer, &Registry::standard()) {
            Ok(info) => info.to_string(),
            Err(error) => error.code().to_owned(),
        }
    }

    #[test]
    fn short_and_long_forms() {
        let json = r#"["IPC::Manager::Client::MessageFiles","IPC::Manager::Serializer::JSON","/x:y"]"#;
        assert_eq!(parsed(json, None), json);
        assert_eq!(parsed(&format!("\n {json} \n"), Some("JSON::Zstd")), json);
        assert_eq!(parsed("messagefiles:/x:y", Some("json")), json);
        assert_eq!(parsed("MessageFiles:/x:y", Some("JSON")), json);
        for (url, class) in [("postgres://me@h/d", "PostgreSQL"), ("mariadb:///d", "MariaDB"), ("mysql://h/d", "MySQL")]
        {
            let long = format!(r#"["IPC::Manager::Client::{class}","IPC::Manager::Serializer::JSON","{url}"]"#);
            assert_eq!(parsed(url, Some("JSON")), long);
        }
        assert_eq!(parsed("pigeon:/x", None), "unknown_protocol");
        assert!(parsed("messagefiles://x", None).ends_with(r#""//x"]"#));
        assert_eq!(parsed("messagefiles:", None), "invalid_info");
        for bad in ["/tmp/bus", "", "{\"a\":1}", "[1,2"] {
            assert_eq!(parsed(bad, None), "invalid_info", "{bad}");
        }
    }
}
