// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a frame must be like, and what is refused.

use proptest::prelude::*;
use zstd::zstd_safe;

use super::super::Serializers;
use super::*;

fn packed(serializer: &JsonZstd, text: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    serializer.encode(text, &mut payload).unwrap();
    payload
}

fn declared_size(frame: &[u8]) -> Option<usize> {
    get_frame_content_size(frame).unwrap().map(|size| size as usize)
}

fn plain() -> JsonZstd {
    JsonZstd::new(3, None).unwrap()
}

fn resolve(name: &str) -> Result<Arc<dyn Serializer>> {
    Serializers::standard().resolve(&SerializerSpec::from_name(name).unwrap())
}

/// A file that lives as long as the test.
struct File(PathBuf);

impl File {
    fn with(name: &str, content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("ipc-manager-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Packs as a stream, whose header does not tell the size of the content.
fn streamed(text: &[u8], more: &[CParameter]) -> Vec<u8> {
    let mut context = CCtx::create();
    for parameter in more {
        context.set_parameter(*parameter).unwrap();
    }
    let mut payload = Vec::with_capacity(compress_bound(text.len()) + 100);
    let mut output = OutBuffer::around(&mut payload);
    let mut input = InBuffer::around(text);
    while input.pos() < text.len() {
        context.compress_stream(&mut output, &mut input).unwrap();
    }
    assert_eq!(context.end_stream(&mut output).unwrap(), 0);
    assert_eq!(declared_size(&payload), None);
    payload
}

/// Packs `repeats` times 1 MiB of zeros, as a stream.
fn bomb(repeats: usize) -> Vec<u8> {
    let zeros = vec![0; 1 << 20];
    let mut context = CCtx::create();
    let mut payload = Vec::with_capacity(1 << 20);
    let mut output = OutBuffer::around(&mut payload);
    for _ in 0..repeats {
        let mut input = InBuffer::around(&zeros);
        while input.pos() < zeros.len() {
            context.compress_stream(&mut output, &mut input).unwrap();
        }
    }
    assert_eq!(context.end_stream(&mut output).unwrap(), 0);
    payload
}

#[test]
fn ser_02_texts_round_trip() {
    let serializer = plain();
    for text in [r#"{"a":[1,"b",null]}"#, "[1,2.5]", "\"x\"", "1", "true", "null", "", &"abc".repeat(1 << 20)] {
        let mut payload = b"before".to_vec();
        serializer.encode(text, &mut payload).unwrap();
        let frame = payload.strip_prefix(b"before").unwrap();
        // The header tells the size of the content.
        assert_eq!(declared_size(frame), Some(text.len()));
        assert_eq!(find_frame_compressed_size(frame), Ok(frame.len()));
        assert_eq!(*serializer.decode(frame, text.len()).unwrap(), *text.as_bytes());
        if !text.is_empty() {
            assert_eq!(serializer.decode(frame, text.len() - 1).unwrap_err().kind(), ErrorKind::TooLarge);
        }
    }
}

#[test]
fn ser_03_packs_tighter_than_json() {
    assert!(packed(&plain(), &format!("\"{}\"", "a".repeat(4096))).len() < 100);
}

#[test]
fn ser_04_a_cut_frame_is_corrupt() {
    let serializer = plain();
    for text in ["[1,2,3]".to_owned(), (0..100_000).map(|n| n.to_string()).collect()] {
        let payload = packed(&serializer, &text);
        for cut in [1, 4, 5, payload.len() / 2, payload.len() - 4, payload.len()] {
            let error = serializer.decode(&payload[..payload.len() - cut], 1 << 20).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{cut} bytes less");
        }
    }
}

#[test]
fn ser_05_the_level_is_kept() {
    let nine = JsonZstd::new(9, None).unwrap();
    assert_eq!((nine.level(), plain().level()), (9, 3));
    assert_eq!(*nine.decode(&packed(&nine, "[1]"), 9).unwrap(), *b"[1]");
    for level in [min_c_level(), -1, 0, 1, 22] {
        let serializer = JsonZstd::new(level, None).unwrap();
        assert_eq!(*serializer.decode(&packed(&serializer, "[1]"), 9).unwrap(), *b"[1]");
    }
    let error = JsonZstd::new(23, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("-131072 to 22"), "{error}");
}

#[test]
fn ser_06_levels_read_each_other() {
    let (a, b) = (plain(), JsonZstd::new(19, None).unwrap());
    let text = "[\"some text\",\"some text\"]";
    assert_eq!(*a.decode(&packed(&b, text), 100).unwrap(), *text.as_bytes());
    assert_eq!(*b.decode(&packed(&a, text), 100).unwrap(), *text.as_bytes());
}

#[test]
fn ser_07_both_sides_need_the_dictionary() {
    let raw = File::with("raw", r#"{"from":"alpha","to":"beta","content":"a rather usual message"}"#.as_bytes());
    let trained = File::with("trained", include_bytes!("testdata/trained.dict"));
    let other = File::with("other", r#"{"from":"gamma","to":"delta","content":"another text, as long"}"#.as_bytes());
    let text = r#"{"from":"alpha","to":"beta","content":"a rather usual message"}"#;
    for path in [&raw.0, &trained.0] {
        let serializer = JsonZstd::new(3, Some(path)).unwrap();
        let payload = packed(&serializer, text);
        assert!(payload.len() < packed(&plain(), text).len(), "the dictionary is of use");
        assert_eq!(declared_size(&payload), Some(text.len()));
        assert_eq!(*serializer.decode(&payload, 100).unwrap(), *text.as_bytes());
        // Its own instance, made from the same bytes.
        let twin = JsonZstd::new(19, Some(path)).unwrap();
        assert_eq!(*twin.decode(&payload, 100).unwrap(), *text.as_bytes());
        assert_eq!(plain().decode(&payload, 100).unwrap_err().kind(), ErrorKind::Corrupt);
        let wrong = JsonZstd::new(3, Some(&other.0)).unwrap();
        assert_eq!(wrong.decode(&payload, 100).unwrap_err().kind(), ErrorKind::Corrupt);
        // After a failure the next one is sound.
        assert_eq!(*wrong.decode(&packed(&wrong, text), 100).unwrap(), *text.as_bytes());
    }
    let serializer = JsonZstd::new(3, Some(&trained.0)).unwrap();
    let id = zstd_safe::get_dict_id_from_frame(&packed(&serializer, text));
    assert_eq!(id, zstd_safe::get_dict_id_from_dict(&std::fs::read(&trained.0).unwrap()));
    assert!(id.is_some());
}

#[test]
fn an_unusable_dictionary_is_refused_at_once() {
    let damaged = File::with("damaged", &include_bytes!("testdata/trained.dict")[..20]);
    let error = JsonZstd::new(3, Some(&damaged.0)).unwrap_err();
    assert_eq!((error.kind(), error.place().path()), (ErrorKind::Corrupt, Some(damaged.0.as_path())));
    let missing = Path::new("/nonexistent/dictionary");
    let error = JsonZstd::new(3, Some(missing)).unwrap_err();
    assert_eq!((error.kind(), error.place().path()), (ErrorKind::Store, Some(missing)));
    for path in ["/dev/zero", "/tmp"] {
        assert_eq!(JsonZstd::new(3, Some(Path::new(path))).unwrap_err().kind(), ErrorKind::Usage);
    }
}

#[test]
fn ser_08_equal_arguments_are_one_instance() {
    let dictionary = File::with("shared", b"some text");
    let path = dictionary.0.to_str().unwrap();
    let serializers = Serializers::standard();
    let resolve = |name: &str| serializers.resolve(&SerializerSpec::from_name(name).unwrap()).unwrap();
    let same = [
        (r#"["JSON::Zstd"]"#, r#"["JSON::Zstd","level",3]"#),
        (r#"["JSON::Zstd","level","9"]"#, r#"["JSON::Zstd","level",9]"#),
        (
            &format!(r#"["JSON::Zstd","level",9,"dictionary","{path}"]"#),
            &format!(r#"["JSON::Zstd","dictionary","{path}","level",9]"#),
        ),
    ];
    for (a, b) in same {
        assert!(Arc::ptr_eq(&resolve(b), &resolve(a)), "{a} and {b}");
    }
    assert!(!Arc::ptr_eq(&resolve(same[0].0), &resolve(same[1].0)));
    assert_eq!(
        resolve(same[2].1).spec().to_string(),
        format!(r#"["IPC::Manager::Serializer::JSON::Zstd","level",9,"dictionary","{path}"]"#)
    );
}

#[test]
fn ser_09_the_spec_is_written_as_the_reference_writes_it() {
    for (given, written) in [
        ("JSON::Zstd", "IPC::Manager::Serializer::JSON::Zstd"),
        (r#"["JSON::Zstd"]"#, r#"["IPC::Manager::Serializer::JSON::Zstd"]"#),
        (r#"["JSON::Zstd","level",3]"#, r#"["IPC::Manager::Serializer::JSON::Zstd"]"#),
        (r#"["JSON::Zstd","level",6]"#, r#"["IPC::Manager::Serializer::JSON::Zstd","level",6]"#),
        (r#"["JSON::Zstd","level",null,"dictionary",null]"#, r#"["IPC::Manager::Serializer::JSON::Zstd"]"#),
    ] {
        let spec = resolve(given).unwrap().spec().clone();
        assert_eq!(spec.to_string(), written);
        assert_eq!(resolve(&spec.to_string()).unwrap().spec(), &spec);
    }
    assert_eq!(
        format!("{:?}", resolve(r#"["JSON::Zstd","level",6]"#).unwrap()),
        "JsonZstd { level: 6, dictionary: None }"
    );
}

#[test]
fn unsound_arguments_are_usage_errors() {
    for (name, words) in [
        (r#"["JSON::Zstd","lvl",3]"#, "level, dictionary"),
        (r#"["JSON::Zstd","level",23]"#, "-131072 to 22"),
        (r#"["JSON::Zstd","level",99999999999]"#, "-131072 to 22"),
        (r#"["JSON::Zstd","level",1.5]"#, "integer"),
        (r#"["JSON::Zstd","level","high"]"#, "integer"),
        (r#"["JSON::Zstd","level",true]"#, "integer"),
        (r#"["JSON::Zstd","dictionary",1]"#, "path"),
        (r#"["JSON::Zstd","dictionary",""]"#, "path"),
    ] {
        let error = resolve(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{name}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_frame_need_not_tell_its_size() {
    let serializer = plain();
    for size in [1, 1000, 4096, 16 << 10, 1 << 20, (1 << 20) + 1] {
        let text: Vec<u8> = (0..size).map(|n: usize| b'a' + (n * n / 7 % 26) as u8).collect();
        let payload = streamed(&text, &[]);
        for limit in [size, size + 1, usize::MAX] {
            assert!(*serializer.decode(&payload, limit).unwrap() == *text, "{size} bytes");
        }
        assert_eq!(serializer.decode(&payload, size - 1).unwrap_err().kind(), ErrorKind::TooLarge);
    }
}

#[test]
fn a_bomb_ends_at_the_limit() {
    let payload = bomb(1024);
    assert!(payload.len() < 128 << 10, "1 GiB in {} bytes", payload.len());
    let error = plain().decode(&payload, 64 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[test]
fn a_declared_size_is_a_claim() {
    // A single-segment frame with a size field of eight bytes, and one empty block.
    let claim = |size: u64| [&MAGIC[..], &[0xE0], &size.to_le_bytes(), &[1, 0, 0]].concat();
    assert_eq!(plain().decode(&claim(1 << 50), 1 << 20).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(plain().decode(&claim(1 << 20), 1 << 20).unwrap_err().kind(), ErrorKind::Corrupt);
    plain().decode(&claim(1 << 62), usize::MAX).unwrap_err();
    plain().decode(&claim(u64::MAX - 2), usize::MAX).unwrap_err();
}

#[test]
fn a_wide_window_is_refused() {
    // A window descriptor of 2 to the power of 31, and one block that needs it.
    let payload = [&MAGIC[..], &[0x00, 21 << 3], &[0x43 & !0b110 | 0b010, 0, 0, b'x']].concat();
    let error = plain().decode(&payload, 1 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("memory"), "{error}");
}

#[test]
fn a_payload_is_exactly_one_frame() {
    let serializer = plain();
    let frame = packed(&serializer, "[1]");
    let skippable = [0x50, 0x2A, 0x4D, 0x18, 1, 0, 0, 0, b'x'];
    for payload in [
        [&frame[..], b"x"].concat(),
        [&frame[..], &frame[..]].concat(),
        [&frame[..], &skippable].concat(),
        [&skippable[..], &frame[..]].concat(),
        skippable.to_vec(),
        b"[1]".to_vec(),
        Vec::new(),
    ] {
        assert_eq!(serializer.decode(&payload, 100).unwrap_err().kind(), ErrorKind::Corrupt, "{payload:x?}");
    }
    let error = serializer.decode(&[&frame[..], b"x"].concat(), 100).unwrap_err();
    assert_eq!(error.place().offset(), Some(frame.len()));
}

#[test]
fn threads_share_one_serializer() {
    let serializer = plain();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let serializer = &serializer;
            scope.spawn(move || {
                for n in 0..200 {
                    let text = format!("[{thread},{n}]");
                    assert_eq!(*serializer.decode(&packed(serializer, &text), 100).unwrap(), *text.as_bytes());
                }
            });
        }
    });
}

#[test]
fn a_context_that_grew_is_not_kept() {
    let serializer = JsonZstd::new(19, None).unwrap();
    let text: String = (0..3_000_000_usize).map(|n| char::from(b'a' + (n * n / 7 % 26) as u8)).collect();
    let payload = packed(&serializer, &text);
    assert!(serializer.compressors.take().is_none());
    let wide = streamed(text.as_bytes(), &[CParameter::WindowLog(24)]);
    assert_eq!(serializer.decode(&payload, text.len()).unwrap().len(), text.len());
    assert_eq!(serializer.decode(&wide, text.len()).unwrap().len(), text.len());
    assert!(serializer.decompressors.take().is_none());
}

proptest! {
    #[test]
    fn damage_is_found(at in any::<prop::sample::Index>(), bit in 0..8) {
        let serializer = plain();
        let text = r#"{"from":"alpha","to":"beta","content":[1,2,3,"a text, a text, a text"]}"#;
        let mut payload = packed(&serializer, text);
        let at = at.index(payload.len());
        payload[at] ^= 1u8 << bit;
        // A flipped bit that changes nothing in the text, such as a reserved one, may pass.
        if let Ok(read) = serializer.decode(&payload, 1000) {
            prop_assert_eq!(&*read, text.as_bytes());
        }
        let sound = packed(&serializer, text);
        prop_assert_eq!(&*serializer.decode(&sound, 1000).unwrap(), text.as_bytes());
    }

    #[test]
    fn any_bytes_are_refused_or_read(mut bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = plain().decode(&bytes, 1000);
        bytes.splice(0..0, MAGIC);
        if let Ok(text) = plain().decode(&bytes, 1000) {
            prop_assert!(text.len() <= 1000);
        }
    }
}
