// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which protocol a new bus gets, and what is said when nothing fits.

use std::sync::Arc;

use ipc_manager::{
    Capabilities, Cleaning, Client, ConnectionString, CreateOptions, Credentials, Directory, Durability, Error,
    ErrorKind, Hold, NotViable, OpenOptions, Opened, Protocol, ProtocolName, Registry, Result, Route, Serializer,
    Spawn, WaitMechanism,
};
use ipc_manager_testkit::{Sandbox, Test};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        cli_01_a_missing_part_is_named,
        cli_02_a_leading_underscore_is_refused,
        cli_05_a_protocol_that_cannot_work_is_passed_over,
        own_01_a_missing_or_unknown_part_is_named,
        the_first_of_a_list_that_works_is_taken,
        what_is_in_memory_is_never_picked_unasked,
        sto_03_a_bus_in_memory_is_known_by_a_number_until_it_is_removed,
    ]
}

/// A protocol that works nowhere.
#[derive(Debug)]
struct Pigeon;

impl Protocol for Pigeon {
    fn name(&self) -> ProtocolName {
        ProtocolName::new("+Test::Pigeon")
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            automatic: true,
            crosses_processes: true,
            suspend: false,
            observable: false,
            largest_payload: Some(80),
            most_unread: Some(1),
            queues: false,
            acknowledges: false,
            connections: false,
            durability: Durability::Process,
            credentials: false,
            groups: false,
            wait: WaitMechanism::Polling,
        }
    }

    fn viable(&self) -> Result<(), NotViable> {
        Err(NotViable("there are no pigeons here".into()))
    }

    fn create(&self, _options: &CreateOptions) -> Result<Route> {
        Err(refused())
    }

    fn hold(
        &self,
        _route: &Route,
        _credentials: &Credentials,
        _guarded: bool,
        _instead_of: Option<Hold>,
    ) -> Result<Hold> {
        Ok(Hold::none())
    }

    fn open(&self, _route: &Route, _options: OpenOptions) -> Result<Opened> {
        Err(refused())
    }

    fn observe(
        &self,
        _route: &Route,
        _credentials: &Credentials,
        _serializer: Arc<dyn Serializer>,
    ) -> Result<Box<dyn Directory>> {
        Err(refused())
    }

    fn clean(&self, _cleaning: &mut Cleaning) {}

    fn destroy(&self, _route: &Route, _credentials: &Credentials) -> Result<()> {
        Ok(())
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::Store, "no pigeon came")
}

fn cli_01_a_missing_part_is_named(_: &Sandbox) {
    let cases = [
        (r#"[null,"JSON","/tmp/x"]"#, "protocol"),
        (r#"["MessageFiles",null,"/tmp/x"]"#, "serializer"),
        (r#"["MessageFiles","JSON"]"#, "route"),
        (r#"["MessageFiles","JSON",null]"#, "route"),
        (r#"["MessageFiles","JSON",""]"#, "route"),
    ];
    for (text, part) in cases {
        let error = ConnectionString::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInfo, "{text}");
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
    for (text, kind) in [
        (r#"["Pigeon","JSON","/tmp/x"]"#, ErrorKind::UnknownProtocol),
        (r#"["MessageFiles","Morse","/tmp/x"]"#, ErrorKind::UnknownSerializer),
    ] {
        let info = ConnectionString::parse(text).unwrap();
        let error = ipc_manager::connect("a", &info).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains("MessageFiles") || error.to_string().contains("JSON"), "names the known");
    }
    let info = ConnectionString::parse(r#"["MessageFiles","JSON","/tmp/x"]"#).unwrap();
    assert_eq!(ipc_manager::connect("", &info).unwrap_err().kind(), ErrorKind::InvalidName);
}

fn cli_02_a_leading_underscore_is_refused(sandbox: &Sandbox) {
    let bus = crate::file_bus::FileBus::new(sandbox);
    let error = bus.try_client("_hidden").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    assert!(error.to_string().contains("_hidden"));
}

fn cli_05_a_protocol_that_cannot_work_is_passed_over(_: &Sandbox) {
    let pigeons = Registry::standard().with(Arc::new(Pigeon));
    let listed = ["+Test::Pigeon", "LocalMemory"];
    let bus = Spawn::builder().registry(pigeons.clone()).protocols(listed).spawn().unwrap();
    assert_eq!(bus.protocol().short(), "LocalMemory");
    let error = Spawn::builder().registry(pigeons.clone()).protocols(["+Test::Pigeon"]).spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotViable);
    assert!(error.to_string().contains("no pigeons here"), "every candidate's reason is told: {error}");
    // One that is named explicitly is not asked; it fails by itself.
    let error = Spawn::builder().registry(pigeons).protocol("+Test::Pigeon").spawn().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Store | ErrorKind::NotViable), "{error:?}");
}

fn own_01_a_missing_or_unknown_part_is_named(_: &Sandbox) {
    let error = Spawn::builder().protocol("Pigeon").spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownProtocol);
    assert!(error.to_string().contains("Pigeon") && error.to_string().contains("LocalMemory"), "{error}");
    let error = Spawn::builder().protocols(["LocalMemory", "Pigeon"]).spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownProtocol);
    let error = Spawn::builder().protocol("LocalMemory").serializer("Morse").spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownSerializer);
    assert!(error.to_string().contains("Morse") && error.to_string().contains("JSON"), "{error}");
    let error = Spawn::builder().protocol("MessageFiles").route("").spawn().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::InvalidName | ErrorKind::Usage), "{error:?}");
}

fn the_first_of_a_list_that_works_is_taken(_: &Sandbox) {
    let bus = Spawn::builder().protocols(["LocalMemory", "MessageFiles"]).spawn().unwrap();
    assert_eq!(bus.protocol().short(), "LocalMemory");
    assert!(bus.is_guarded(), "guarded unless something else was said");
    let client: Client = bus.connect("a").unwrap();
    assert_eq!(client.info(), bus.info());
}

fn what_is_in_memory_is_never_picked_unasked(_: &Sandbox) {
    let picked = Registry::standard().first_viable(&[]).unwrap().name();
    assert_ne!(picked.short(), "LocalMemory");
}

fn sto_03_a_bus_in_memory_is_known_by_a_number_until_it_is_removed(_: &Sandbox) {
    let spawn = || Spawn::builder().protocol("LocalMemory").guard(false).spawn().unwrap();
    let (mut first, mut second) = (spawn(), spawn());
    let number = |bus: &Spawn| -> u64 {
        bus.route().as_str().strip_prefix("localmemory-").and_then(|number| number.parse().ok()).unwrap()
    };
    assert!(number(&first) < number(&second));
    let mut client = first.connect("a").unwrap();
    first.unspawn().unwrap();
    assert_eq!(ipc_manager::connect("b", first.info()).unwrap_err().kind(), ErrorKind::NoSuchBus);
    assert_eq!(client.get_messages().unwrap_err().kind(), ErrorKind::NoSuchBus);
    drop(second.connect("a").unwrap());
    second.unspawn().unwrap();
}
