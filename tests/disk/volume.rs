//! Volumes of their own, in memory.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// A volume, mounted in one place or in none.
pub(crate) struct Volume {
    dir: TempDir,
    /// Where it is mounted as well, so that it lives on while it is not in its place.
    second: TempDir,
}

impl Volume {
    /// None where mounting is not permitted, which is said.
    pub(crate) fn mount(mebibytes: u32) -> Option<Self> {
        let [dir, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let size = format!("size={mebibytes}m");
        let mount = mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], &[second.path()]);
        if let Err(why) = mount {
            let forbidden = ["superuser", "permitted", "denied"].iter().any(|word| why.contains(word));
            assert!(forbidden, "{why}");
            println!("NOT TESTED, for nobody here may mount a volume: {why}");
            return None;
        }
        let volume = Self { dir, second };
        volume.come_back();
        Some(volume)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Leaves so many bytes free, no more.
    pub(crate) fn fill_up_to(&self, left: u64) {
        let volume = rustix::fs::statvfs(self.dir.path()).unwrap();
        let free = volume.f_bavail * volume.f_frsize;
        fs::write(self.filler(), vec![1; usize::try_from(free - left).unwrap()]).unwrap();
    }

    /// Leaves nothing free.
    pub(crate) fn fill_up(&self) {
        let mut filler = File::options().create(true).append(true).open(self.filler()).unwrap();
        while filler.write_all(&[1; 4096]).is_ok() {}
    }

    pub(crate) fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    /// It cannot be written to in its place; nobody may have a file of it open for writing.
    pub(crate) fn set_read_only(&self, read_only: bool) {
        let how = if read_only { "remount,bind,ro" } else { "remount,bind,rw" };
        mount(&["-o", how], &[self.dir.path()]).unwrap();
    }

    /// It is unmounted, though files of it may be open: the empty folder that it was mounted on is there.
    pub(crate) fn go(&self) {
        unmount(self.dir.path());
        assert!(self.is_gone());
    }

    /// Nothing is in the folder that it was mounted on.
    pub(crate) fn is_gone(&self) -> bool {
        fs::read_dir(self.dir.path()).unwrap().next().is_none()
    }

    pub(crate) fn come_back(&self) {
        mount(&["--bind"], &[self.second.path(), self.dir.path()]).unwrap();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        unmount(self.dir.path());
        unmount(self.second.path());
    }
}

fn mount(options: &[&str], places: &[&Path]) -> Result<(), String> {
    let done = Command::new("mount").args(options).args(places).output().unwrap();
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

fn unmount(place: &Path) {
    // It may not be mounted just now.
    Command::new("umount").arg("-l").arg(place).output().unwrap();
}
