//! Archives that are whole, torn, changed and forged.

use super::*;

fn sound(path: &Path) -> Vec<u8> {
    let mut writer = ArchiveWriter::new(path).unwrap();
    writer.add(Part::Snapshot, "b", &[7; 1000]).unwrap();
    writer.add(Part::Plan, "fig", b"a plan").unwrap();
    writer.add(Part::Record, "a", b"a record").unwrap();
    writer.add(Part::Record, "a", b"another one").unwrap();
    let length = writer.finish().unwrap();
    let bytes = fs::read(path).unwrap();
    assert_eq!(length, bytes.len() as u64);
    bytes
}

/// An archive whose index says this of one file of these bytes.
fn forged(path: &Path, edit: impl Fn(&mut Index), content: &[u8]) -> Result<Archive> {
    let member = compress(content).unwrap();
    let (length, size) = (member.len() as u64, content.len() as u64);
    let file =
        Member { place: "runs/a.json".into(), offset: 0, length, at: 0, size, sha256: hex_of(content), result: None };
    let mut index = Index { schema: SCHEMA, archive: VERSION, files: vec![file] };
    edit(&mut index);
    let head = compress(&serde_json::to_vec(&index).unwrap()).unwrap();
    fs::write(path, [head, member].concat()).unwrap();
    Archive::open(path)
}

#[test]
fn what_is_added_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/x.archive");
    sound(&path);
    let archive = Archive::open(&path).unwrap();
    let files: Vec<_> = archive.files().collect();
    assert_eq!(files, [(Part::Plan, "fig"), (Part::Record, "a"), (Part::Snapshot, "b")]);
    assert_eq!(archive.read(Part::Record, "a").unwrap(), b"a record", "the first");
    assert_eq!(archive.read(Part::Snapshot, "b").unwrap(), [7; 1000]);
    assert!(archive.read(Part::Plan, "other").unwrap_err().to_string().contains("it has no `plans/other.json`"));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
    let mut writer = ArchiveWriter::new(&path).unwrap();
    assert!(writer.add(Part::Record, "../a", b"").is_err());
}

#[test]
fn a_torn_or_changed_archive_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.archive");
    let bytes = sound(&path);
    let all = |path: &Path| {
        let archive = Archive::open(path)?;
        archive.files().try_for_each(|(part, name)| archive.read(part, name).map(drop))
    };
    for length in 0..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        let said = Archive::open(&path).unwrap_err().to_string();
        assert!(said.contains("x.archive` is no archive that can be used: "), "{length}: {said}");
    }
    fs::write(&path, [&bytes[..], b"x"].concat()).unwrap();
    assert!(all(&path).unwrap_err().to_string().contains(" bytes, got "));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        fs::write(&path, changed).unwrap();
        // A flag, a time or a system in gzip's own head says nothing of the content.
        if let Err(error) = all(&path) {
            assert!(error.to_string().contains("is no archive that can be used"), "{at}: {error}");
        }
    }
    for other in [&b""[..], b"{}", &compress(b"{\"schema\": 1, \"pack\": \"fig\", \"files\": []}").unwrap()] {
        fs::write(&path, other).unwrap();
        assert!(matches!(Archive::open(&path), Err(StoreError::NoArchive { .. })));
    }
    assert!(matches!(Archive::open(dir.path()), Err(StoreError::NoArchive { .. })), "a folder");
    assert!(matches!(Archive::open(dir.path().join("none")), Err(StoreError::Io { .. })));
}

#[test]
fn a_hostile_index_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.archive");
    assert!(forged(&path, |_| (), b"content").unwrap().read(Part::Record, "a").is_ok());
    let places = [
        "/etc/passwd",
        "../runs/a.json",
        "runs/../../a.json",
        "runs//a.json",
        "runs/a/b.json",
        "runs/.a.json",
        "runs/.json",
        "runs/a\\b.json",
        "runs/a\0.json",
        "locks/a.lock",
        "snapshots/a.snapshot.before",
        "packs/x.json.gz",
        "",
    ];
    for place in places {
        let said = forged(&path, |index| index.files[0].place = place.into(), b"x").unwrap_err().to_string();
        assert!(said.contains("is no plan, record or snapshot"), "{place}: {said}");
    }
    let refused = |edit: &dyn Fn(&mut Index), says: &str| {
        let said = forged(&path, edit, b"x").unwrap_err().to_string();
        assert!(said.contains(says), "{says}: {said}");
    };
    refused(&|index| index.files[0].size = u64::MAX, "is too large");
    refused(&|index| index.files[0].offset = u64::MAX, "does not lie behind");
    refused(&|index| index.files[0].length = u64::MAX, " bytes, got ");
    refused(&|index| index.files.push(index.files[0].clone()), "does not lie behind the one before it");
    refused(
        &|index| index.files.push(Member { offset: index.files[0].length, length: 0, ..index.files[0].clone() }),
        "twice",
    );
    refused(&|index| index.archive = 2, "by a newer version");
    refused(&|index| index.schema = SCHEMA + 1, "by a newer version");
    // A file that swells without end, behind an index that says otherwise.
    let swelling = forged(&path, |index| index.files[0].size = 5, &vec![0; 1 << 22]).unwrap();
    assert!(swelling.read(Part::Record, "a").unwrap_err().to_string().contains("is not what its index says"));
    let index = compress(&vec![b' '; 1 << 25]).unwrap();
    fs::write(&path, index).unwrap();
    assert!(Archive::open(&path).unwrap_err().to_string().contains("its index is too large"));
}
