//! A disk as a power loss leaves it.
//!
//! Durable is what a sync covered: for a file its bytes and its length, for a folder the names in it. Of the rest the
//! disk may keep anything: each block of a file may be as it was, or as any of the writes since left it, on its own,
//! and so may each name. `sync_file_range` makes nothing durable: it flushes neither the length nor the disk's cache.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use crate::{random::Random, recorder::Op};

/// What is in a folder: the files with their bytes, and the folders.
pub(crate) type Contents = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// How much of what was not synced is there after the power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Nothing.
    Nothing,
    /// Everything, as after a mere crash of the process.
    Everything,
    /// Everything up to a moment, and the first blocks of the write after that.
    Torn,
    /// Each block by chance.
    Scattered,
    /// Everything but one block.
    ButOneBlock,
    /// One block.
    OneBlock,
}

impl Kept {
    pub(crate) const ALL: [Self; 6] =
        [Self::Nothing, Self::Everything, Self::Torn, Self::Scattered, Self::ButOneBlock, Self::OneBlock];
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone)]
enum Naming {
    Name(OsString, usize),
    Forget(OsString),
    Move(OsString, OsString, usize),
}

/// A state on the disk and what was done to it since, each with the number of its operation.
#[derive(Clone)]
struct Pending<State, Step> {
    durable: State,
    since: Vec<(usize, Step)>,
}

impl<State, Step> Pending<State, Step> {
    fn new(durable: State) -> Self {
        Self { durable, since: Vec::new() }
    }

    fn sync(&mut self, before: usize, apply: impl Fn(Step, &mut State)) {
        let covered = self.since.partition_point(|(number, _)| *number < before);
        for (_, step) in self.since.drain(..covered) {
            apply(step, &mut self.durable);
        }
    }
}

type Names = BTreeMap<OsString, usize>;

#[derive(Clone)]
enum Node {
    File(Pending<Vec<u8>, Change>),
    Folder(Pending<Names, Naming>),
}

/// A recorded folder at some moment.
#[derive(Clone)]
pub(crate) struct Disk {
    nodes: Vec<Node>,
    /// What the running system calls them.
    names: BTreeMap<PathBuf, usize>,
    done: usize,
}

impl Disk {
    /// A folder of which everything is durable.
    pub(crate) fn of(folder: &Path) -> Self {
        let root = folder.canonicalize().unwrap();
        let mut disk = Self { nodes: Vec::new(), names: BTreeMap::new(), done: 0 };
        disk.add(root.clone(), Node::Folder(Pending::new(Names::new())));
        for (path, bytes) in contents_of(folder) {
            let path = root.join(path);
            let node = match bytes {
                Some(bytes) => Node::File(Pending::new(bytes)),
                None => Node::Folder(Pending::new(Names::new())),
            };
            let number = disk.add(path.clone(), node);
            let (names, name) = disk.parent(&path);
            names.durable.insert(name, number);
        }
        disk
    }

    fn add(&mut self, path: PathBuf, node: Node) -> usize {
        self.nodes.push(node);
        self.names.insert(path, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    /// The names in the folder of `path`, and its own.
    fn parent(&mut self, path: &Path) -> (&mut Pending<Names, Naming>, OsString) {
        let folder = self.names[path.parent().unwrap()];
        let Node::Folder(names) = &mut self.nodes[folder] else { panic!("{} is in a file", path.display()) };
        (names, path.file_name().unwrap().to_owned())
    }

    fn rename(&mut self, path: &Path, naming: impl FnOnce(OsString) -> Naming) {
        let done = self.done;
        let (names, name) = self.parent(path);
        names.since.push((done, naming(name)));
    }

    fn change(&mut self, path: &Path, change: Change) {
        let Node::File(file) = &mut self.nodes[self.names[path]] else {
            panic!("{} is no file", path.display())
        };
        file.since.push((self.done, change));
    }

    /// Does the next operation.
    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Folder(path) | Op::File(path) => {
                let node = match op {
                    Op::File(_) => Node::File(Pending::new(Vec::new())),
                    _ => Node::Folder(Pending::new(Names::new())),
                };
                let number = self.add(path.clone(), node);
                self.rename(path, |name| Naming::Name(name, number));
            }
            Op::Rename(from, to) => {
                let number = self.names.remove(from).unwrap();
                self.names.insert(to.clone(), number);
                let to = to.file_name().unwrap().to_owned();
                self.rename(from, |name| Naming::Move(name, to, number));
            }
            Op::Remove(path) => {
                self.names.remove(path);
                self.rename(path, Naming::Forget);
            }
            Op::Write { path, at, bytes } => {
                let at = usize::try_from(*at).unwrap();
                self.change(path, Change::Write { at, bytes: bytes.clone() });
            }
            Op::Length { path, bytes } => {
                self.change(path, Change::Length(usize::try_from(*bytes).unwrap()));
            }
            Op::Synced { path, before } => match &mut self.nodes[self.names[path]] {
                Node::File(file) => file.sync(*before, Change::apply),
                Node::Folder(names) => names.sync(*before, Naming::apply),
            },
        }
        self.done += 1;
    }

    /// What is there after a power loss now.
    pub(crate) fn after_power_loss(&self, kept: Kept, random: &mut Random) -> Contents {
        let mut contents = Contents::new();
        let mut folders = vec![(PathBuf::new(), 0)];
        while let Some((path, folder)) = folders.pop() {
            let Node::Folder(names) = &self.nodes[folder] else { unreachable!("only folders are listed") };
            for (name, number) in names_after(names, kept, random) {
                let path = path.join(name);
                let bytes = match &self.nodes[number] {
                    Node::File(file) => Some(bytes_after(file, kept, random)),
                    Node::Folder(_) => {
                        folders.push((path.clone(), number));
                        None
                    }
                };
                contents.insert(path, bytes);
            }
        }
        contents
    }
}

impl Change {
    fn apply(self, file: &mut Vec<u8>) {
        match self {
            Self::Length(length) => file.resize(length, 0),
            Self::Write { at, bytes } => {
                file.resize(file.len().max(at + bytes.len()), 0);
                file[at..at + bytes.len()].copy_from_slice(&bytes);
            }
        }
    }

    fn length_after(&self, length: usize) -> usize {
        match self {
            Self::Length(length) => *length,
            Self::Write { at, bytes } => length.max(at + bytes.len()),
        }
    }

    /// The bytes of a file as long as `longest` that it changes.
    fn span(&self, longest: usize) -> std::ops::Range<usize> {
        match self {
            Self::Length(length) => *length..longest,
            Self::Write { at, bytes } => *at..at + bytes.len(),
        }
    }

    /// Applies it to these bytes of the file only, which is long enough.
    fn apply_within(&self, file: &mut [u8], block: &std::ops::Range<usize>) {
        let span = self.span(file.len());
        let (from, to) = (span.start.max(block.start), span.end.min(block.end));
        match self {
            Self::Length(_) => file[from..to].fill(0),
            Self::Write { at, bytes } => file[from..to].copy_from_slice(&bytes[from - at..to - at]),
        }
    }
}

impl Naming {
    fn apply(self, names: &mut Names) {
        match self {
            Self::Name(name, number) => drop(names.insert(name, number)),
            Self::Forget(name) => drop(names.remove(&name)),
            Self::Move(from, to, number) => {
                names.remove(&from);
                names.insert(to, number);
            }
        }
    }
}

fn names_after(names: &Pending<Names, Naming>, kept: Kept, random: &mut Random) -> Names {
    let mut after = names.durable.clone();
    let moment = match kept {
        Kept::Nothing => 0,
        Kept::Torn => random.below(names.since.len() + 1),
        _ => names.since.len(),
    };
    let by_chance = matches!(kept, Kept::Scattered | Kept::ButOneBlock | Kept::OneBlock);
    for (_, naming) in &names.since[..moment] {
        if !by_chance || random.once_in(2) {
            naming.clone().apply(&mut after);
        }
    }
    after
}

fn bytes_after(file: &Pending<Vec<u8>, Change>, kept: Kept, random: &mut Random) -> Vec<u8> {
    let changes: Vec<&Change> = file.since.iter().map(|(_, change)| change).collect();
    if changes.is_empty() || kept == Kept::Nothing {
        return file.durable.clone();
    }
    let block = if random.once_in(2) { 512 } else { 4096 };
    let lengths: Vec<usize> = std::iter::once(file.durable.len())
        .chain(changes.iter().scan(file.durable.len(), |length, change| {
            *length = change.length_after(*length);
            Some(*length)
        }))
        .collect();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let mut touching: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (number, change) in changes.iter().enumerate() {
        let span = change.span(longest);
        for block in span.start / block..span.end.div_ceil(block) {
            touching.entry(block).or_default().push(number);
        }
    }
    let moment = random.below(changes.len());
    let torn_at = changes[moment].span(longest);
    let torn_at = torn_at.start / block + random.below(torn_at.len() / block + 2);
    let chosen = touching.keys().nth(random.below(touching.len().max(1))).copied();

    let mut after = file.durable.clone();
    after.resize(longest, 0);
    for (number, touching) in touching {
        let some = random.below(touching.len() + 1);
        let applied = match kept {
            Kept::Nothing => 0,
            Kept::Everything => touching.len(),
            Kept::Torn => {
                touching.iter().filter(|at| **at < moment || (**at == moment && number < torn_at)).count()
            }
            Kept::Scattered => some,
            Kept::ButOneBlock if Some(number) == chosen => some.min(touching.len() - 1),
            Kept::ButOneBlock => touching.len(),
            Kept::OneBlock if Some(number) == chosen => some.max(1),
            Kept::OneBlock => 0,
        };
        let block = number * block..(number + 1) * block;
        touching.iter().take(applied).for_each(|at| changes[*at].apply_within(&mut after, &block));
    }
    let by_chance = !matches!(kept, Kept::Everything | Kept::Torn) && random.once_in(4);
    let length = match kept {
        Kept::Torn => lengths[moment + usize::from(random.once_in(2))],
        _ if by_chance => lengths[random.below(lengths.len())],
        _ => lengths[changes.len()],
    };
    after.resize(length, 0);
    after
}

/// What is in a folder.
pub(crate) fn contents_of(folder: &Path) -> Contents {
    let mut contents = Contents::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(path) = folders.pop() {
        for entry in fs::read_dir(folder.join(&path)).unwrap() {
            let entry = entry.unwrap();
            let path = path.join(entry.file_name());
            let is_folder = entry.file_type().unwrap().is_dir();
            contents.insert(path.clone(), (!is_folder).then(|| fs::read(entry.path()).unwrap()));
            folders.extend(is_folder.then_some(path));
        }
    }
    contents
}

/// Puts them into a folder.
pub(crate) fn put(contents: &Contents, folder: &Path) {
    for (path, bytes) in contents {
        let path = folder.join(path);
        match bytes {
            Some(bytes) => fs::write(path, bytes).unwrap(),
            None => fs::create_dir(path).unwrap(),
        }
    }
}
