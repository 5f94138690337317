// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows of any content, routes to servers, and files of passwords.

use super::message_row::Inbound;
use super::value::{Row, Value};
use crate::fuzz::{MESSAGE, target};
use crate::limits::Limits;
use crate::serializer::Json;

/// Values of all kinds, from bytes.
fn values(input: &[u8]) -> Vec<Value> {
    let value = |field: &[u8]| match field.split_first() {
        None | Some((0, _)) => Value::Null,
        Some((1, rest)) => Value::Integer(rest.iter().fold(0, |sum, byte| sum << 8 | i64::from(*byte))),
        Some((2, rest)) => Value::Real(f64::from_le_bytes(*rest.first_chunk().unwrap_or(&[0xff; 8]))),
        Some((3, rest)) => Value::Bytes(rest.to_vec()),
        Some(_) => Value::Text(String::from_utf8_lossy(field).into_owned()),
    };
    input.split(|byte| *byte == 0x1e).map(value).collect()
}

#[test]
fn rows() {
    let more = r#"{"stamp_ord":3,"extra":{"k":1},"again":1}"#;
    target("sql-row")
        .memory(2 << 20, 256)
        .seed(format!("\u{1}\u{5}\u{1e}ID\u{1e}b\u{1e}a\u{1e}12.5\u{1e}{{\"x\":1}}\u{1e}1\u{1e}{more}"))
        .seed(format!("7\u{1e}ID\u{1e}b\u{1e}a\u{1e}12.5\u{1e}\u{3}{MESSAGE}\u{1e}\u{1}\u{1}"))
        .bytes(|input| {
            let row = Inbound::of(Row::new(values(input)));
            let _ = (row.stamp(), row.sequence);
            for lowers_ids in [false, true] {
                let Ok(decoded) = row.decode(&Json::new(), &Limits::DEFAULT, lowers_ids) else { continue };
                let text = decoded.message.to_json(&Limits::DEFAULT).expect("what was read can be written");
                crate::Message::from_json(text.as_bytes(), &Limits::DEFAULT).expect("what was written can be read");
            }
            let _ = row.into_kept();
        });
}

#[cfg(any(feature = "postgresql", feature = "mysql"))]
mod servers {
    use super::super::secret;
    use super::super::server::ServerProtocol;
    use super::target;
    use crate::route::Route;

    #[test]
    fn routes() {
        let protocols: &[&ServerProtocol] = &[
            #[cfg(feature = "postgresql")]
            &super::super::postgresql::POSTGRESQL,
            #[cfg(feature = "mysql")]
            &super::super::mysql::MARIADB,
        ];
        target("sql-route")
            .seed("dbi:Pg(RaiseError=>1):db=a;host=db.example;port=5433;sslmode=require")
            .seed("dbi:MariaDB:dbname=q;mariadb_socket=/run/my/mysql.sock")
            .seed("postgres://app@db.example:5433/my%20db?options=x&sslmode=require")
            .seed("mariadb://[::1]:3307/a?charset=utf8")
            .seed("postgresql:///a?host=/run/pg")
            .seed("mysql://h/a?ssl-mode=VERIFY_IDENTITY&ssl-ca=/ca.pem")
            .bytes(|input| {
                let Ok(route) = Route::new(&String::from_utf8_lossy(input)) else { return };
                for family in protocols.iter().map(|protocol| &protocol.0.family) {
                    let Ok(address) = family.parse(&route) else { continue };
                    let _ = address.canonical();
                    let Ok(dsn) = family.dsn(&address) else { continue };
                    let read = family.parse(&dsn).expect("what was written can be read");
                    // Who one is stays out of what is handed to others.
                    assert!(read.user.is_none() && read.is_place_of(&address), "{dsn}");
                }
            });
    }

    #[test]
    fn files_of_passwords() {
        target("passwords")
            .seed("# a\nlocalhost:*:db\\:1:app:se\\:cret\n*:*:*:*:last\n")
            .seed("[client]\nuser = app\npassword=\"se=cret\"\n[other]\nuser=x\n")
            .bytes(|input| {
                let text = String::from_utf8_lossy(input);
                for password in
                    [secret::password_in(&text, ["localhost", "5432", "db:1", "app"]), secret::client_section(&text).1]
                {
                    assert!(password.is_none_or(|password| password.len() <= text.len()));
                }
            });
    }
}
