//! Makes marshalled code the same every time.
//!
//! `marshal.dumps` marks an object that may come again with FLAG_REF, and writes a reference where the same object
//! does come again. Both depend on what the process happens to share: reference counts, constants that earlier
//! compilations interned, the order in which a set was filled (CPython issues 78274, 73894 and 34093). So two runs give
//! different bytes for the same source.
//!
//! Here the stream is read into objects, equal immutable objects become one, and they are written again by a rule that
//! knows contents only: the first of several equal objects is marked, the others are references to it; whatever is no
//! longer than a reference is repeated; members of a frozenset are in order of their bytes; strings that the interpreter
//! shares anyway (of at most one Latin-1 character) count as interned. Code objects are never made one where the
//! compiler had made two. What is loaded is equal, object for object.

use rustc_hash::FxHashMap;

/// How code objects are laid out in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CodeLayout {
    /// Python 3.9 and 3.10 (since 3.8).
    Separate,
    /// Python 3.11 to 3.14: local variables of all kinds in one tuple, qualified name, exception table.
    Localsplus,
}

impl CodeLayout {
    /// The layout of Python 3.`minor`, of those that are known.
    pub(super) const fn of(minor: u8) -> Option<Self> {
        match minor {
            9 | 10 => Some(Self::Separate),
            11..=14 => Some(Self::Localsplus),
            _ => None,
        }
    }

    /// Integers before the objects, objects, objects after the line number.
    const fn fields(self) -> (usize, usize, usize) {
        match self {
            Self::Separate => (6, 8, 1),
            Self::Localsplus => (5, 8, 2),
        }
    }
}

/// Why a stream is not one of marshalled code.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("byte {offset} of the marshalled code is not what it should be: {reason}")]
pub(super) struct MarshalError {
    offset: usize,
    reason: &'static str,
}

/// The same objects in their one spelling. To be called on a thread with a stack of `STACK` bytes.
pub(super) fn normalise(input: &[u8], layout: CodeLayout) -> Result<Vec<u8>, MarshalError> {
    let mut reader =
        Reader { input, at: 0, layout, depth: 0, objects: Objects::default(), references: Vec::new() };
    let root = reader.object()?;
    if reader.at != input.len() {
        return Err(reader.wrong("something follows the end"));
    }
    let mut writer = Writer {
        objects: &reader.objects,
        indices: vec![None; reader.objects.nodes.len()],
        marked: 0,
        output: Vec::with_capacity(input.len()),
    };
    writer.object(root);
    Ok(writer.output)
}

const FLAG_REF: u8 = 0x80;
/// The length of a reference.
const REFERENCE: usize = 5;
/// CPython's own limit (`MAX_MARSHAL_STACK_DEPTH`): nothing nests deeper in what it writes.
const DEEPEST: usize = 2000;
/// What a thread needs to read and write objects nested so deeply.
pub(super) const STACK: usize = 32 << 20;

type Id = u32;

/// An object: its type, the bytes that follow the type, and the objects in it. For code objects `tail` is the line number.
#[derive(Clone, Copy)]
struct Node<'a> {
    kind: u8,
    bytes: &'a [u8],
    tail: &'a [u8],
    first_child: u32,
    children: u32,
    /// How often other objects, each counted once, have it in them.
    uses: u32,
}

#[derive(Default)]
struct Objects<'a> {
    nodes: Vec<Node<'a>>,
    children: Vec<Id>,
    leaves: FxHashMap<(u8, &'a [u8]), Id>,
    containers: FxHashMap<(u8, Box<[Id]>), Id>,
}

impl<'a> Objects<'a> {
    fn leaf(&mut self, kind: u8, bytes: &'a [u8]) -> Id {
        if let Some(id) = self.leaves.get(&(kind, bytes)) {
            return *id;
        }
        let id = self.add(kind, bytes, &[], &[]);
        self.leaves.insert((kind, bytes), id);
        id
    }

    fn container(&mut self, kind: u8, mut members: Vec<Id>) -> Id {
        if kind == b'>' {
            members.sort_by_cached_key(|id| {
                let mut spelled = Vec::new();
                self.spell(*id, &mut spelled);
                spelled
            });
        }
        let key = (kind, members.into_boxed_slice());
        if let Some(id) = self.containers.get(&key) {
            return *id;
        }
        let id = self.add(kind, &[], &[], &key.1);
        self.containers.insert(key, id);
        id
    }

    fn add(&mut self, kind: u8, bytes: &'a [u8], tail: &'a [u8], members: &[Id]) -> Id {
        // Streams are read from buffers of less than 4 GiB, and every object takes a byte of them.
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let id = count(self.nodes.len());
        for member in members {
            self.nodes[*member as usize].uses += 1;
        }
        let first_child = count(self.children.len());
        self.children.extend_from_slice(members);
        self.nodes.push(Node { kind, bytes, tail, first_child, children: count(members.len()), uses: 0 });
        id
    }

    fn members(&self, node: &Node<'_>) -> &[Id] {
        &self.children[node.first_child as usize..][..node.children as usize]
    }

    /// The object in full, without references.
    fn spell(&self, id: Id, out: &mut Vec<u8>) {
        let node = &self.nodes[id as usize];
        node.head(out, 0);
        for member in self.members(node) {
            self.spell(*member, out);
        }
        out.extend_from_slice(node.tail);
    }
}

impl Node<'_> {
    /// Whether a reference to it is shorter than it is.
    fn worth_a_reference(&self) -> bool {
        match self.kind {
            b'(' | b'>' | b':' => self.children > 0,
            b'z' | b'Z' => self.bytes.len() + 2 > REFERENCE,
            b'c' | b's' | b't' | b'u' | b'a' | b'A' => true,
            _ => self.bytes.len() + 1 > REFERENCE,
        }
    }

    /// Type, flag, length.
    fn head(&self, out: &mut Vec<u8>, flag: u8) {
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        match self.kind {
            b'(' => {
                if let Ok(children) = u8::try_from(self.children) {
                    out.extend([b')' | flag, children]);
                } else {
                    out.push(b'(' | flag);
                    out.extend(self.children.to_le_bytes());
                }
            }
            b'>' => {
                out.push(self.kind | flag);
                out.extend(self.children.to_le_bytes());
            }
            b'z' | b'Z' => out.extend([self.kind | flag, u8::try_from(self.bytes.len()).unwrap_or(u8::MAX)]),
            b's' | b't' | b'u' | b'a' | b'A' => {
                out.push(self.kind | flag);
                out.extend(length(self.bytes.len()));
            }
            kind => out.push(kind | flag),
        }
        out.extend_from_slice(self.bytes);
    }
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    layout: CodeLayout,
    depth: usize,
    objects: Objects<'a>,
    /// What FLAG_REF marked, in order; `None` while it is being read.
    references: Vec<Option<Id>>,
}

impl<'a> Reader<'a> {
    fn wrong(&self, reason: &'static str) -> MarshalError {
        MarshalError { offset: self.at, reason }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], MarshalError> {
        let rest = &self.input[self.at..];
        if length > rest.len() {
            return Err(self.wrong("it ends too early"));
        }
        self.at += length;
        Ok(&rest[..length])
    }

    fn byte(&mut self) -> Result<u8, MarshalError> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<i32, MarshalError> {
        let bytes = self.take(4)?;
        Ok(i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn length(&mut self) -> Result<usize, MarshalError> {
        let number = self.number()?;
        usize::try_from(number).map_err(|_| self.wrong("a length is negative"))
    }

    fn object(&mut self) -> Result<Id, MarshalError> {
        if self.depth == DEEPEST {
            return Err(self.wrong("objects are nested too deeply"));
        }
        self.depth += 1;
        let first = self.byte()?;
        let slot = (first & FLAG_REF != 0).then(|| {
            self.references.push(None);
            self.references.len() - 1
        });
        let id = self.unflagged(first & !FLAG_REF)?;
        if let Some(slot) = slot {
            self.references[slot] = Some(id);
        }
        self.depth -= 1;
        Ok(id)
    }

    fn unflagged(&mut self, kind: u8) -> Result<Id, MarshalError> {
        let bytes = match kind {
            b'r' => {
                let index = self.length()?;
                let known = self.references.get(index).copied().flatten();
                return known.ok_or_else(|| self.wrong("a reference leads nowhere"));
            }
            b'N' | b'F' | b'T' | b'S' | b'.' => &[],
            b'i' => self.take(4)?,
            b'g' => self.take(8)?,
            b'y' => self.take(16)?,
            b'l' => {
                let start = self.at;
                let digits = self.number()?.unsigned_abs() as usize;
                self.take(digits.saturating_mul(2))?;
                &self.input[start..self.at]
            }
            b's' => {
                let length = self.length()?;
                self.take(length)?
            }
            b'z' | b'Z' => {
                let length = self.byte()?;
                let text = self.take(length.into())?;
                return Ok(self.text(kind, text));
            }
            b't' | b'u' | b'a' | b'A' => {
                let length = self.length()?;
                let text = self.take(length)?;
                return Ok(self.text(kind, text));
            }
            b'(' | b'>' => {
                let length = self.length()?;
                return self.container(kind, length);
            }
            b')' => {
                let length = self.byte()?;
                return self.container(b'(', length.into());
            }
            b':' => return self.container(b':', 3),
            b'c' => return self.code(),
            _ => return Err(self.wrong("the type is not one that code has")),
        };
        Ok(self.objects.leaf(kind, bytes))
    }

    fn text(&mut self, kind: u8, text: &'a [u8]) -> Id {
        // At most one character below U+0100: the interpreter has one object for each, interned by whoever came first.
        let shared = matches!(text, [] | [..=0x7f] | [0xc2 | 0xc3, _]);
        let kind = match kind {
            b'z' if shared => b'Z',
            b'a' if shared => b'A',
            b'u' if shared => b't',
            kind => kind,
        };
        self.objects.leaf(kind, text)
    }

    fn members(&mut self, count: usize) -> Result<Vec<Id>, MarshalError> {
        // Every member takes at least a byte: a length beyond that is a lie, and no reason to take memory.
        if count > self.input.len() - self.at {
            return Err(self.wrong("it ends too early"));
        }
        (0..count).map(|_| self.object()).collect()
    }

    fn container(&mut self, kind: u8, count: usize) -> Result<Id, MarshalError> {
        let members = self.members(count)?;
        Ok(self.objects.container(kind, members))
    }

    fn code(&mut self) -> Result<Id, MarshalError> {
        let (integers, before, after) = self.layout.fields();
        let bytes = self.take(4 * integers)?;
        let mut members = self.members(before)?;
        let line = self.take(4)?;
        members.extend(self.members(after)?);
        Ok(self.objects.add(b'c', bytes, line, &members))
    }
}

struct Writer<'a> {
    objects: &'a Objects<'a>,
    indices: Vec<Option<u32>>,
    marked: u32,
    output: Vec<u8>,
}

impl Writer<'_> {
    fn object(&mut self, id: Id) {
        let objects = self.objects;
        if let Some(index) = self.indices[id as usize] {
            self.output.push(b'r');
            self.output.extend(index.to_le_bytes());
            return;
        }
        let node = &objects.nodes[id as usize];
        let mut flag = 0;
        if node.uses > 1 && node.worth_a_reference() {
            flag = FLAG_REF;
            self.indices[id as usize] = Some(self.marked);
            self.marked += 1;
        }
        node.head(&mut self.output, flag);
        let members = objects.members(node);
        // Of a code object, the line number stands before the last members: one, or two with an exception table.
        let last = if node.kind == b'c' { members.len() - 8 } else { 0 };
        let (before, after) = members.split_at(members.len() - last);
        for member in before {
            self.object(*member);
        }
        self.output.extend_from_slice(node.tail);
        for member in after {
            self.object(*member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `marshal.dumps(("spam", "spam", 1))` as it looks with both strings one object, two, and marked in vain.
    #[test]
    fn sharing_does_not_matter() {
        let shared = b"\xa9\x03\xda\x04spamr\x01\x00\x00\x00\xe9\x01\x00\x00\x00";
        let apart = b"\x29\x03\x5a\x04spam\x5a\x04spami\x01\x00\x00\x00";
        let in_vain = b"\xa9\x03\xda\x04spam\xda\x04spam\xe9\x01\x00\x00\x00";
        let normal = b"\x29\x03\xda\x04spamr\x00\x00\x00\x00i\x01\x00\x00\x00";
        for stream in [&shared[..], apart, in_vain] {
            assert_eq!(normalise(stream, CodeLayout::Localsplus).unwrap(), normal);
        }
    }

    #[test]
    fn members_of_a_frozenset_are_in_order() {
        let one = b">\x02\x00\x00\x00i\x01\x00\x00\x00i\x02\x00\x00\x00";
        let two = b">\x02\x00\x00\x00i\x02\x00\x00\x00i\x01\x00\x00\x00";
        assert_eq!(normalise(one, CodeLayout::Separate), normalise(two, CodeLayout::Separate));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for wrong in [
            &b""[..],
            b"NN",
            b"r\x00\x00\x00\x00",
            b"\xa9\x01r\x00\x00\x00\x00",
            b"z\x05abc",
            b"(\xff\xff\xff\x7f",
            b"(\xff\xff\xff\xff",
            b"l\x00\x00\x00\x80",
            b"?",
            b"c\x00",
        ] {
            assert!(normalise(wrong, CodeLayout::Localsplus).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn nesting_is_read_as_deep_as_it_is_written() {
        let nested = |depth| [b")\x01".repeat(depth), b"N".to_vec()].concat();
        let work = move || {
            assert!(normalise(&nested(DEEPEST - 1), CodeLayout::Localsplus).is_ok());
            assert!(normalise(&nested(DEEPEST), CodeLayout::Localsplus).is_err());
        };
        std::thread::Builder::new().stack_size(STACK).spawn(work).unwrap().join().unwrap();
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes: Vec<u8>) {
            let _ = normalise(&bytes, CodeLayout::Separate);
            let _ = normalise(&bytes, CodeLayout::Localsplus);
        }

        #[test]
        fn normalising_twice_changes_nothing(bytes in proptest::collection::vec(
            prop_oneof![Just(b"N".to_vec()), Just(b"\xa9\x02".to_vec()), Just(b"\x29\x03".to_vec()), Just(b"\xda\x04spam".to_vec()),
                Just(b"\xfa\x04eggs".to_vec()), Just(b"r\x00\x00\x00\x00".to_vec()), Just(b"\xe9\x07\x00\x00\x00".to_vec()),
                Just(b">\x02\x00\x00\x00".to_vec())], 1..30)) {
            if let Ok(once) = normalise(&bytes.concat(), CodeLayout::Localsplus) {
                prop_assert_eq!(normalise(&once, CodeLayout::Localsplus).unwrap(), once);
            }
        }
    }
}
