//! PAX extended headers (POSIX.1-2001, "pax Interchange Format").

use std::collections::BTreeMap;

use super::ReadFault;

const XATTR: &str = "SCHILY.xattr.";

/// The records of one extended header that mean something here.
#[derive(Default, Debug)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<u64>,
    pub(super) xattrs: BTreeMap<String, Vec<u8>>,
}

impl Pax {
    /// Values can hold any byte, newlines too, so records are taken apart by their lengths. A key that stands twice, or a
    /// number that is none, is refused: readers differ on what that means.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, ReadFault> {
        let mut pax = Self::default();
        while !bytes.is_empty() {
            let (record, rest) = record(bytes)?;
            bytes = rest;
            let equals =
                record.iter().position(|&byte| byte == b'=').ok_or(ReadFault::Pax("a record has no `=`"))?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let key = str::from_utf8(key).map_err(|_| ReadFault::Pax("a key is not UTF-8"))?;
            match key {
                "path" => once(&mut pax.path, value.to_vec())?,
                "linkpath" => once(&mut pax.link, value.to_vec())?,
                "size" => once(&mut pax.size, number(value)?)?,
                "uid" => once(&mut pax.uid, number(value)?.try_into().map_err(|_| BIG_OWNER)?)?,
                "gid" => once(&mut pax.gid, number(value)?.try_into().map_err(|_| BIG_OWNER)?)?,
                "mtime" => once(&mut pax.mtime, seconds(value)?)?,
                _ if key.starts_with("GNU.sparse.") => return Err(ReadFault::Sparse),
                _ => {
                    if let Some(name) = key.strip_prefix(XATTR) {
                        if name.is_empty() {
                            return Err(ReadFault::Pax("an extended attribute has no name"));
                        }
                        if pax.xattrs.insert(name.to_owned(), value.to_vec()).is_some() {
                            return Err(TWICE);
                        }
                    }
                }
            }
        }
        Ok(pax)
    }
}

const TWICE: ReadFault = ReadFault::Pax("a key stands twice");
const BIG_OWNER: ReadFault = ReadFault::Pax("an owner or group is larger than 32 bits");

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), ReadFault> {
    if slot.replace(value).is_some() { Err(TWICE) } else { Ok(()) }
}

/// `<length> <key>=<value>\n`: gives key and value, and what follows the record.
fn record(bytes: &[u8]) -> Result<(&[u8], &[u8]), ReadFault> {
    const WRONG: ReadFault = ReadFault::Pax("the length of a record is wrong");
    // Twenty digits hold every length.
    let space = bytes.iter().take(21).position(|&byte| byte == b' ').ok_or(WRONG)?;
    let length = usize::try_from(number(&bytes[..space])?).map_err(|_| WRONG)?;
    let (record, rest) = bytes.split_at_checked(length).ok_or(WRONG)?;
    let record = record.get(space + 1..).and_then(|record| record.strip_suffix(b"\n")).ok_or(WRONG)?;
    Ok((record, rest))
}

fn number(digits: &[u8]) -> Result<u64, ReadFault> {
    str::from_utf8(digits)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or(ReadFault::Pax("a number is malformed"))
}

/// Whole seconds since 1970; times before that read as 1970.
fn seconds(value: &[u8]) -> Result<u64, ReadFault> {
    let (negative, value) = value.strip_prefix(b"-").map_or((false, value), |value| (true, value));
    let (whole, fraction) = match value.iter().position(|&byte| byte == b'.') {
        Some(point) => (&value[..point], &value[point + 1..]),
        None => (value, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(ReadFault::Pax("a time is malformed"));
    }
    let whole = number(whole)?;
    Ok(if negative { 0 } else { whole })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_are_taken_by_length() {
        let records = b"9 path=a\n29 SCHILY.xattr.user.xy=1\n\x00=\n15 mtime=12.75\n14 comment=hi\n";
        let pax = Pax::parse(records).unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a"[..]));
        assert_eq!(pax.xattrs["user.xy"], b"1\n\x00=");
        assert_eq!(pax.mtime, Some(12));
    }

    #[test]
    fn what_readers_could_take_differently_is_refused() {
        for wrong in [
            &b"9 path=a\n9 path=b\n"[..],
            b"8 path=a\n",
            b"11 path=a\n",
            b"9 pathXa\n",
            b"x path=a\n",
            b"10 size=-1\n",
            b"10 size=+1\n",
            b"8 size=\n",
            b"18 uid=4294967296\n",
            b"0 path=a\n",
            b"99999999999999999999999 path=a\n",
        ] {
            assert!(Pax::parse(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
        assert!(matches!(Pax::parse(b"22 GNU.sparse.major=1\n"), Err(ReadFault::Sparse)));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes: Vec<u8>, text in "[0-9]{1,3} [a-z]{0,5}=[0-9a\n]{0,9}\n") {
            let _ = (Pax::parse(&bytes), Pax::parse(text.as_bytes()));
        }
    }
}
