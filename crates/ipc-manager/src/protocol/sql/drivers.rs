// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transactions of the drivers that this crate uses itself, for applications that use the same.

use super::posting::{Database, SqlValue, Transaction};

/// What a driver says no with.
type Refused = Box<dyn std::error::Error + Send + Sync>;

#[cfg(feature = "sqlite")]
mod sqlite {
    use rusqlite::types::{ToSqlOutput, Value, ValueRef};
    use rusqlite::{Connection, ToSql, params_from_iter};

    use super::{Database, Refused, SqlValue, Transaction};

    impl ToSql for SqlValue {
        fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
            Ok(match self {
                Self::Null => ToSqlOutput::Owned(Value::Null),
                Self::Integer(number) => ToSqlOutput::Owned(Value::Integer(*number)),
                Self::Bool(is_so) => ToSqlOutput::Owned(Value::Integer((*is_so).into())),
                Self::Real(number) => ToSqlOutput::Owned(Value::Real(*number)),
                Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
                Self::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            })
        }
    }

    fn query(connection: &Connection, sql: &str, params: &[SqlValue]) -> rusqlite::Result<Vec<Vec<SqlValue>>> {
        let mut statement = connection.prepare_cached(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query(params_from_iter(params))?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let value = |column| {
                Ok(match row.get_ref(column)? {
                    ValueRef::Null => SqlValue::Null,
                    ValueRef::Integer(number) => SqlValue::Integer(number),
                    ValueRef::Real(number) => SqlValue::Real(number),
                    ValueRef::Text(text) => match std::str::from_utf8(text) {
                        Ok(text) => SqlValue::Text(text.to_owned()),
                        Err(_) => SqlValue::Bytes(text.to_vec()),
                    },
                    ValueRef::Blob(bytes) => SqlValue::Bytes(bytes.to_vec()),
                })
            };
            all.push((0..columns).map(value).collect::<rusqlite::Result<_>>()?);
        }
        Ok(all)
    }

    /// Also for a transaction that was begun by hand.
    impl Transaction for Connection {
        fn database(&mut self) -> Database {
            Database::Sqlite
        }

        fn query(&mut self, sql: &str, params: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, Refused> {
            Ok(query(self, sql, params)?)
        }

        fn execute(&mut self, sql: &str, params: &[SqlValue]) -> Result<u64, Refused> {
            Ok(self.prepare_cached(sql)?.execute(params_from_iter(params))? as u64)
        }
    }

    impl Transaction for rusqlite::Transaction<'_> {
        fn database(&mut self) -> Database {
            Database::Sqlite
        }

        fn query(&mut self, sql: &str, params: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, Refused> {
            Ok(query(self, sql, params)?)
        }

        fn execute(&mut self, sql: &str, params: &[SqlValue]) -> Result<u64, Refused> {
            Ok(self.prepare_cached(sql)?.execute(params_from_iter(params))? as u64)
        }
    }
}

#[cfg(feature = "mysql")]
mod mysql {
    use mysql::prelude::Queryable;
    use mysql::{Params, Value};

    use super::{Database, Refused, SqlValue, Transaction};

    fn bound(params: &[SqlValue]) -> Params {
        let bind = |value: &SqlValue| match value {
            SqlValue::Null => Value::NULL,
            SqlValue::Integer(number) => Value::Int(*number),
            SqlValue::Bool(is_so) => Value::Int((*is_so).into()),
            SqlValue::Real(number) => Value::Double(*number),
            SqlValue::Text(text) => Value::Bytes(text.clone().into_bytes()),
            SqlValue::Bytes(bytes) => Value::Bytes(bytes.clone()),
        };
        if params.is_empty() { Params::Empty } else { Params::Positional(params.iter().map(bind).collect()) }
    }

    fn found(value: Option<Value>) -> SqlValue {
        match value {
            Some(Value::Bytes(bytes)) => SqlValue::Bytes(bytes),
            Some(Value::Int(number)) => SqlValue::Integer(number),
            Some(Value::UInt(number)) => i64::try_from(number).map_or(SqlValue::Null, SqlValue::Integer),
            Some(Value::Float(number)) => SqlValue::Real(number.into()),
            Some(Value::Double(number)) => SqlValue::Real(number),
            _ => SqlValue::Null,
        }
    }

    impl Transaction for mysql::Transaction<'_> {
        fn database(&mut self) -> Database {
            let version: Option<String> = self.query_first("SELECT VERSION()").ok().flatten();
            let is_mariadb = version.is_some_and(|version| version.contains("MariaDB"));
            if is_mariadb { Database::MariaDb } else { Database::MySql }
        }

        fn query(&mut self, sql: &str, params: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, Refused> {
            let rows: Vec<mysql::Row> = self.exec(sql, bound(params))?;
            Ok(rows.into_iter().map(|row| row.unwrap_raw().into_iter().map(found).collect()).collect())
        }

        fn execute(&mut self, sql: &str, params: &[SqlValue]) -> Result<u64, Refused> {
            let done = self.exec_iter(sql, bound(params))?;
            Ok(done.affected_rows())
        }
    }
}

#[cfg(feature = "postgresql")]
mod postgresql {
    use bytes::BytesMut;
    use postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

    use super::{Database, Refused, SqlValue, Transaction};

    impl ToSql for SqlValue {
        fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
            match self {
                Self::Null => Ok(IsNull::Yes),
                Self::Integer(number) => number.to_sql(ty, out),
                Self::Bool(is_so) => is_so.to_sql(ty, out),
                Self::Real(number) => number.to_sql(ty, out),
                Self::Text(text) => text.to_sql(ty, out),
                Self::Bytes(bytes) => bytes.to_sql(ty, out),
            }
        }

        fn accepts(_: &Type) -> bool {
            true
        }

        to_sql_checked!();
    }

    fn found(row: &postgres::Row, column: usize) -> SqlValue {
        fn get<'a, T: FromSql<'a>>(row: &'a postgres::Row, column: usize) -> Option<T> {
            row.try_get::<_, Option<T>>(column).ok().flatten()
        }
        let value = match *row.columns()[column].type_() {
            Type::INT4 => get::<i32>(row, column).map(|number| SqlValue::Integer(number.into())),
            Type::INT8 => get::<i64>(row, column).map(SqlValue::Integer),
            Type::BOOL => get::<bool>(row, column).map(SqlValue::Bool),
            Type::FLOAT8 => get::<f64>(row, column).map(SqlValue::Real),
            Type::BYTEA => get::<Vec<u8>>(row, column).map(SqlValue::Bytes),
            _ => get::<String>(row, column).map(SqlValue::Text),
        };
        value.unwrap_or(SqlValue::Null)
    }

    fn bound(params: &[SqlValue]) -> Vec<&(dyn ToSql + Sync)> {
        params.iter().map(|param| param as &(dyn ToSql + Sync)).collect()
    }

    impl Transaction for postgres::Transaction<'_> {
        fn database(&mut self) -> Database {
            Database::PostgreSql
        }

        fn query(&mut self, sql: &str, params: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, Refused> {
            let rows = self.query(sql, &bound(params))?;
            Ok(rows.iter().map(|row| (0..row.len()).map(|column| found(row, column)).collect()).collect())
        }

        fn execute(&mut self, sql: &str, params: &[SqlValue]) -> Result<u64, Refused> {
            Ok(self.execute(sql, &bound(params))?)
        }
    }
}
