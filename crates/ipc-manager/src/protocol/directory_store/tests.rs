// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;

pub(super) const KIND: Kind = Kind {
    protocol: "Test",
    max_name: |_| 200,
    keeps_mailbox: true,
    is_entry: files::is_directory,
    unread: None,
    is_intact: |_, _, _| true,
    discard: |_, _| Ok(0),
    is_removable: |_, _, _| true,
};

#[test]
fn fs_08_names_on_disk() {
    let on_disk = |name: &str| {
        disk_name_within((KIND.max_name)(&Route::new("/x").unwrap()), &PeerName::foreign(name).unwrap())
            .unwrap()
            .into_string()
            .unwrap()
    };
    assert_eq!(on_disk("short"), "short");
    assert_eq!(on_disk(&"a".repeat(200)), "a".repeat(200));
    assert_eq!(on_disk(&"a".repeat(201)), "h-a92efd82109373e58f9a2056dee01e807e216ce6");
    assert_eq!(on_disk("with/slash"), "h-bdd3e041c458db22157cd6aef2470391d8bc9eb9");
    assert_eq!(on_disk("h-"), "h-3d8c0d8ccdf38a6d9103dbda04b18dade7588e32");
    assert_eq!(on_disk("H-x"), "H-x");
}

#[test]
fn a_short_form_that_does_not_fit_is_an_error() {
    let fits = PeerName::foreign(&"n".repeat(41)).unwrap();
    assert!(disk_name_within(41, &fits).is_ok());
    let error = disk_name_within(41, &PeerName::foreign(&"n".repeat(42)).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    assert!(error.to_string().contains("41"), "{error}");
}
