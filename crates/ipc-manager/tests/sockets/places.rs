// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where sockets can be: names that fit beside a route, routes that are long, and temporary directories that are.

use std::fs;

use ipc_manager::{Client, ConnectionString, ErrorKind, Spawn};
use ipc_manager_testkit::{PATIENCE, Puppet, Sandbox, Subject, Test};
use serde_json::json;

use crate::vectors::manifest;

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        names_on_disk_depend_on_the_length_of_the_route,
        soc_03_a_name_that_does_not_fit_is_refused_with_the_room_there_is,
        the_spelling_of_the_route_counts,
        a_route_longer_than_any_socket_path_says_so,
        a_store_goes_where_sockets_fit,
    ]
}

/// A bus at a route of exactly so many characters.
fn bus_of_length(sandbox: &Sandbox, length: usize) -> Spawn {
    let dir = sandbox.dir().to_str().unwrap();
    assert!(dir.len() + 2 <= length, "the sandbox is at too long a path for this test: {dir}");
    let route = format!("{dir}/{}", "r".repeat(length - dir.len() - 1));
    Spawn::builder().protocol("UnixSocket").guard(false).route(&route).spawn().unwrap()
}

fn names_on_disk_depend_on_the_length_of_the_route(sandbox: &Sandbox) {
    let manifest = manifest("names");
    let mut tested = 0;
    for (length, described) in manifest["socket_by_route_length"].as_object().unwrap() {
        let length: usize = length.parse().unwrap();
        if sandbox.dir().as_os_str().len() + 2 > length {
            continue;
        }
        let mut owner = bus_of_length(sandbox, length);
        let route = owner.info().route().as_str().to_owned();
        let mut a = (length < 60).then(|| owner.connect("a").unwrap());
        for entry in described["names"].as_array().unwrap() {
            let name = "n".repeat(usize::try_from(entry["name_length"].as_u64().unwrap()).unwrap());
            let joined = owner.connect(&name);
            match entry.get("on_disk") {
                Some(disk) => {
                    let mut client = joined.unwrap_or_else(|error| panic!("{length}, {}: {error}", name.len()));
                    let disk = disk.as_str().unwrap();
                    assert!(fs::symlink_metadata(format!("{route}/{disk}")).is_ok(), "{length}: {disk} is not there");
                    // However long the path of the socket is: it can be reached.
                    if let Some(a) = &mut a {
                        a.send(&name, "x").unwrap();
                        assert_eq!(client.recv_timeout(PATIENCE).unwrap().content(), "x");
                    }
                    client.send(&name, "to itself").unwrap();
                    assert_eq!(client.recv_timeout(PATIENCE).unwrap().content(), "to itself");
                }
                None => assert_eq!(joined.unwrap_err().kind(), ErrorKind::InvalidName, "{length}, {}", name.len()),
            }
            tested += 1;
        }
        drop(a);
        owner.unspawn().unwrap();
    }
    assert!(tested > 40, "only {tested} names were tested");
}

fn soc_03_a_name_that_does_not_fit_is_refused_with_the_room_there_is(sandbox: &Sandbox) {
    let owner = bus_of_length(sandbox, 90);
    let error = owner.connect(&"n".repeat(300)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    assert!(error.to_string().contains("12"), "the room is not told: {error}");
    let mut a = owner.connect("a").unwrap();
    assert_eq!(a.send(&"n".repeat(300), "x").unwrap_err().kind(), ErrorKind::InvalidName);
    assert!(a.peer(&"n".repeat(300)).unwrap().is_none());
}

fn the_spelling_of_the_route_counts(sandbox: &Sandbox) {
    let owner = bus_of_length(sandbox, 60);
    let name = "n".repeat(42);
    let client = owner.connect(&name).unwrap();
    assert!(fs::symlink_metadata(format!("{}/{name}", owner.info().route())).is_ok());
    // The same directory by a longer spelling leaves less room, as others compute it.
    let longer = owner.to_string().replace("/r", "//r");
    let longer: ConnectionString = longer.parse().unwrap();
    let error = Client::builder(&name, &longer).connect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName, "{error}");
    drop(client);
}

fn a_route_longer_than_any_socket_path_says_so(sandbox: &Sandbox) {
    let owner = bus_of_length(sandbox, 150);
    let error = owner.connect("a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName, "{error}");
    assert!(error.to_string().contains("room for 0"), "{error}");
}

fn a_store_goes_where_sockets_fit(sandbox: &Sandbox) {
    let long = sandbox.dir().join("l".repeat(80));
    fs::create_dir(&long).unwrap();
    // A puppet's temporary directory is the one that it is given.
    let mut puppet = Puppet::start(&Subject::new("UnixSocket"), "", &long);
    let info = puppet.must(&json!({"op": "spawn", "protocol": "UnixSocket"}))["info"].as_str().unwrap().to_owned();
    let info: ConnectionString = info.parse().unwrap();
    let route = info.route().as_str();
    assert!(!route.starts_with(long.to_str().unwrap()), "{route}");
    let name = "n".repeat(300);
    let mut client = ipc_manager::connect(&name, &info).unwrap();
    client.send(&name, "x").unwrap();
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().content(), "x");
    client.disconnect().unwrap();
    puppet.must(&json!({"op": "unspawn"}));
    assert!(!std::path::Path::new(route).exists());
    // Protocols with other names stay in the temporary directory.
    let files = puppet.must(&json!({"op": "spawn", "protocol": "MessageFiles"}))["info"].as_str().unwrap().to_owned();
    let files: ConnectionString = files.parse().unwrap();
    assert!(files.route().as_str().starts_with(long.to_str().unwrap()));
    puppet.must(&json!({"op": "unspawn"}));
}
