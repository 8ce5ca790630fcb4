//! NVIDIA's run-time compiler, which needs no GPU, where it is at hand: `NP_NVRTC` names a folder with `libnvrtc.so` in it, however deep.
#![allow(unsafe_code, clippy::unwrap_used, clippy::print_stdout, dead_code, unreachable_pub)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

use libloading::Library;

type Program = *mut c_void;
type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Text = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;

/// The compiler.
pub struct Nvrtc {
    lib: Library,
    _builtins: Library,
}

impl Nvrtc {
    /// The compiler, if it is at hand.
    pub fn find() -> Option<Self> {
        let Some(folder) = std::env::var_os("NP_NVRTC") else {
            println!("not tried: `NP_NVRTC` names no folder with NVRTC");
            return None;
        };
        let load = |begin: &str| {
            let path =
                find(Path::new(&folder), begin).unwrap_or_else(|| panic!("no {begin} below {}", folder.display()));
            // SAFETY: NVIDIA's libraries, whose initialisation asks nothing of its caller.
            unsafe { Library::new(path) }.unwrap()
        };
        // NVRTC asks for it by name alone, which finds what is loaded already.
        let _builtins = load("libnvrtc-builtins.so");
        Some(Self { lib: load("libnvrtc.so"), _builtins })
    }

    /// Compiles a kernel whose function is `name`: contraction, approximations and flushed subnormal numbers would give other bits than the CPU's, but in
    /// logarithms.
    ///
    /// Gives how many parameters it has.
    pub fn check(&self, source: &str, name: &str) -> usize {
        let ptx = self.ptx(source).unwrap_or_else(|log| panic!("{log}\n{source}"));
        assert!(ptx.contains(&format!(".entry {name}(")), "{ptx}");
        for word in ["fma.", ".approx", ".ftz"] {
            assert!(source.contains("log(") || !ptx.contains(word), "`{word}` in\n{ptx}\nof\n{source}");
        }
        let (_, entry) = ptx.split_once(&format!(".entry {name}(")).unwrap();
        entry.split_once(')').unwrap().0.matches(".param").count()
    }

    /// The function of this name, which must be of type `F` in `nvrtc.h`.
    fn function<F: Copy>(&self, name: &CStr) -> F {
        // SAFETY: the callers below name the types as nvrtc.h declares them, and the library outlives each call.
        unsafe { *self.lib.get::<F>(name.to_bytes_with_nul()).unwrap() }
    }

    /// What `text` of `size` bytes says of the program.
    fn text(&self, program: Program, size: &CStr, text: &CStr) -> String {
        let (mut length, size, text) = (0, self.function::<Size>(size), self.function::<Text>(text));
        // SAFETY: the program lives, and the buffer is as long as it is said to have to be.
        unsafe {
            assert_eq!(size(program, &raw mut length), 0);
            let mut buffer = vec![0u8; length];
            assert_eq!(text(program, buffer.as_mut_ptr().cast()), 0);
            String::from_utf8_lossy(&buffer).into_owned()
        }
    }

    /// PTX of `source`, or what the compiler has against it.
    pub fn ptx(&self, source: &str) -> Result<String, String> {
        let (source, options) = (CString::new(source).unwrap(), [c"--gpu-architecture=compute_80".as_ptr()]);
        let (create, compile) =
            (self.function::<Create>(c"nvrtcCreateProgram"), self.function::<Compile>(c"nvrtcCompileProgram"));
        let mut program = null_mut();
        // SAFETY: all pointers are to text that ends with a zero and lives until the program is destroyed.
        let status = unsafe {
            let name = c"kernel.cu".as_ptr();
            assert_eq!(create(&raw mut program, source.as_ptr(), name, 0, null(), null()), 0);
            compile(program, 1, options.as_ptr())
        };
        let outcome = match status {
            0 => Ok(self.text(program, c"nvrtcGetPTXSize", c"nvrtcGetPTX")),
            _ => Err(self.text(program, c"nvrtcGetProgramLogSize", c"nvrtcGetProgramLog")),
        };
        // SAFETY: nobody uses it after this.
        assert_eq!(unsafe { self.function::<Destroy>(c"nvrtcDestroyProgram")(&raw mut program) }, 0);
        outcome
    }
}

/// The file below `folder` whose name begins so.
fn find(folder: &Path, begin: &str) -> Option<PathBuf> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if entry.file_name().to_string_lossy().starts_with(begin) {
            return Some(entry.path());
        }
        if entry.path().is_dir() && !is_link {
            folders.push(entry.path());
        }
    }
    folders.iter().find_map(|folder| find(folder, begin))
}
