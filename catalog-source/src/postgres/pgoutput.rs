//! Messages of the plug-in pgoutput, protocol version 1 (PostgreSQL documentation, "Logical Replication Message Formats").
//! Pure.

use std::borrow::Cow;

/// A message; columns borrow from it.
#[derive(Debug, PartialEq)]
pub(super) enum Message<'a> {
    Begin {
        /// where the transaction's commit record is
        final_lsn: u64,
        /// microseconds since 2000
        commit_time: i64,
        xid: u32,
    },
    Commit {
        /// behind the commit record
        end_lsn: u64,
    },
    Relation(Relation),
    Insert {
        relation: u32,
        new: Vec<Cell<'a>>,
    },
    Update {
        relation: u32,
        old: Option<OldRow<'a>>,
        new: Vec<Cell<'a>>,
    },
    Delete {
        relation: u32,
        old: OldRow<'a>,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// what `pg_logical_emit_message` wrote
    Logical(LogicalMessage<'a>),
    /// origin, type: nothing to do
    Other,
}

/// A message that somebody wrote into the log.
#[derive(Debug, PartialEq)]
pub(super) struct LogicalMessage<'a> {
    /// whether it is part of the transaction that it comes in; else it stands alone
    pub(super) transactional: bool,
    pub(super) prefix: String,
    pub(super) content: &'a [u8],
}

/// A table as it is from here on in the stream.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Relation {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) identity: Identity,
    pub(super) columns: Vec<RelationColumn>,
}

/// What the old row of an update or a delete holds (`pg_class.relreplident`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// the primary key
    Default,
    /// the columns of an index
    Index,
    /// every column
    Full,
    /// nothing: no updates and deletes come
    Nothing,
}

/// A column of a relation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RelationColumn {
    /// part of the replica identity
    pub(super) key: bool,
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) modifier: i32,
}

/// A column's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    /// a large value that did not change and is not sent
    Unchanged,
    Text(Cow<'a, [u8]>),
}

/// The row before the change.
#[derive(Debug, PartialEq)]
pub(super) enum OldRow<'a> {
    /// only the columns of the replica identity hold values
    Key(Vec<Cell<'a>>),
    /// REPLICA IDENTITY FULL
    Full(Vec<Cell<'a>>),
}

/// Decodes a message.
///
/// # Errors
/// What is wrong with it.
pub(super) fn decode(bytes: &[u8]) -> Result<Message<'_>, String> {
    let mut reader = Reader(bytes);
    Ok(match reader.byte()? {
        b'B' => Message::Begin {
            final_lsn: reader.u64()?,
            commit_time: reader.u64()?.cast_signed(),
            xid: reader.u32()?,
        },
        b'C' => {
            reader.byte()?;
            reader.u64()?;
            Message::Commit { end_lsn: reader.u64()? }
        }
        b'R' => Message::Relation(reader.relation()?),
        b'I' => {
            let relation = reader.u32()?;
            match reader.byte()? {
                b'N' => Message::Insert {
                    relation,
                    new: reader.row()?,
                },
                other => return Err(format!("an insert with a row of kind {other}")),
            }
        }
        b'U' => {
            let relation = reader.u32()?;
            let old = match reader.byte()? {
                b'N' => None,
                kind => {
                    let old = reader.old_row(kind)?;
                    if reader.byte()? != b'N' {
                        return Err("an update without a new row".to_owned());
                    }
                    Some(old)
                }
            };
            Message::Update {
                relation,
                old,
                new: reader.row()?,
            }
        }
        b'D' => {
            let relation = reader.u32()?;
            let kind = reader.byte()?;
            Message::Delete {
                relation,
                old: reader.old_row(kind)?,
            }
        }
        b'T' => {
            let count = reader.u32()?;
            reader.byte()?;
            Message::Truncate {
                relations: (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?,
            }
        }
        b'M' => {
            let transactional = reader.byte()? & 1 == 1;
            reader.u64()?; // its position, which the frame around it has too
            let prefix = reader.text()?;
            let length = reader.u32()?;
            Message::Logical(LogicalMessage {
                transactional,
                prefix,
                content: reader.take(length as usize)?,
            })
        }
        b'O' | b'Y' => Message::Other,
        other => return Err(format!("unknown message '{}' of pgoutput", char::from(other))),
    })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| "a message of pgoutput ends early".to_owned())?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        taken
            .try_into()
            .map_err(|_| "a message of pgoutput ends early".to_owned())
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, String> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Result<String, String> {
        let end = memchr::memchr(0, self.0).ok_or_else(|| "a name of pgoutput has no end".to_owned())?;
        let text = String::from_utf8_lossy(self.take(end)?).into_owned();
        self.take(1)?;
        Ok(text)
    }

    fn relation(&mut self) -> Result<Relation, String> {
        let (oid, schema, table) = (self.u32()?, self.text()?, self.text()?);
        let identity = match self.byte()? {
            b'd' => Identity::Default,
            b'i' => Identity::Index,
            b'f' => Identity::Full,
            b'n' => Identity::Nothing,
            other => return Err(format!("a replica identity of kind {other}")),
        };
        let count = self.u16()?;
        let column = |reader: &mut Self| {
            Ok::<_, String>(RelationColumn {
                key: reader.byte()? & 1 == 1,
                name: reader.text()?,
                type_oid: reader.u32()?,
                modifier: reader.u32()?.cast_signed(),
            })
        };
        let columns = (0..count).map(|_| column(self)).collect::<Result<_, _>>()?;
        Ok(Relation {
            oid,
            schema,
            table,
            identity,
            columns,
        })
    }

    fn old_row(&mut self, kind: u8) -> Result<OldRow<'a>, String> {
        match kind {
            b'K' => Ok(OldRow::Key(self.row()?)),
            b'O' => Ok(OldRow::Full(self.row()?)),
            other => Err(format!("an old row of kind {other}")),
        }
    }

    fn row(&mut self) -> Result<Vec<Cell<'a>>, String> {
        let count = self.u16()?;
        (0..count)
            .map(|_| match self.byte()? {
                b'n' => Ok(Cell::Null),
                b'u' => Ok(Cell::Unchanged),
                b't' => {
                    let length = self.u32()?;
                    Ok(Cell::Text(Cow::Borrowed(self.take(length as usize)?)))
                }
                other => Err(format!("a column of kind {other}")),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put_row(bytes: &mut Vec<u8>, row: &[Cell<'_>]) {
        bytes.extend((row.len() as u16).to_be_bytes());
        for cell in row {
            match cell {
                Cell::Null => bytes.push(b'n'),
                Cell::Unchanged => bytes.push(b'u'),
                Cell::Text(text) => {
                    bytes.push(b't');
                    bytes.extend((text.len() as u32).to_be_bytes());
                    bytes.extend_from_slice(text);
                }
            }
        }
    }

    fn cell() -> impl Strategy<Value = Cell<'static>> {
        prop_oneof![
            Just(Cell::Null),
            Just(Cell::Unchanged),
            proptest::collection::vec(any::<u8>(), 0..6).prop_map(|text| Cell::Text(Cow::Owned(text))),
        ]
    }

    fn row() -> impl Strategy<Value = Vec<Cell<'static>>> {
        proptest::collection::vec(cell(), 0..5)
    }

    #[test]
    fn begin_commit_and_relation() {
        let begin = [
            &b"B"[..],
            &7_u64.to_be_bytes(),
            &(-5_i64).to_be_bytes(),
            &9_u32.to_be_bytes(),
        ]
        .concat();
        assert_eq!(
            decode(&begin),
            Ok(Message::Begin {
                final_lsn: 7,
                commit_time: -5,
                xid: 9
            })
        );
        let commit = [
            &b"C\0"[..],
            &7_u64.to_be_bytes(),
            &8_u64.to_be_bytes(),
            &0_u64.to_be_bytes(),
        ]
        .concat();
        assert_eq!(decode(&commit), Ok(Message::Commit { end_lsn: 8 }));
        let relation = [
            &b"R"[..],
            &3_u32.to_be_bytes(),
            b"public\0t\0d",
            &1_u16.to_be_bytes(),
            b"\x01id\0",
            &23_u32.to_be_bytes(),
            &(-1_i32).to_be_bytes(),
        ]
        .concat();
        let column = RelationColumn {
            key: true,
            name: "id".to_owned(),
            type_oid: 23,
            modifier: -1,
        };
        let expected = Relation {
            oid: 3,
            schema: "public".to_owned(),
            table: "t".to_owned(),
            identity: Identity::Default,
            columns: vec![column],
        };
        assert_eq!(decode(&relation), Ok(Message::Relation(expected)));
        let message = [
            &b"M\x01"[..],
            &7_u64.to_be_bytes(),
            b"pre\0",
            &3_u32.to_be_bytes(),
            b"abc",
        ]
        .concat();
        let expected = LogicalMessage {
            transactional: true,
            prefix: "pre".to_owned(),
            content: b"abc",
        };
        assert_eq!(decode(&message), Ok(Message::Logical(expected)));
        assert!(decode(&message[..message.len() - 1]).is_err());
    }

    proptest! {
        /// Rows come back as they were written, in every kind of change.
        #[test]
        fn changes_come_back(relation in any::<u32>(), old in proptest::option::of((any::<bool>(), row())), new in row()) {
            let mut bytes = vec![b'U'];
            bytes.extend(relation.to_be_bytes());
            if let Some((full, old)) = &old {
                bytes.push(if *full { b'O' } else { b'K' });
                put_row(&mut bytes, old);
            }
            bytes.push(b'N');
            put_row(&mut bytes, &new);
            let expected_old = old.clone().map(|(full, old)| if full { OldRow::Full(old) } else { OldRow::Key(old) });
            prop_assert_eq!(decode(&bytes), Ok(Message::Update { relation, old: expected_old, new }));
            // cut anywhere it is an error
            for end in 0..bytes.len() {
                prop_assert!(decode(&bytes[..end]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode(&bytes);
        }
    }
}
