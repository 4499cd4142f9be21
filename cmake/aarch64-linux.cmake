# Cross build for aarch64 Linux with Debian's cross compiler; programs run under qemu-user.
# The libraries come from build/aarch64-sysroot (tools/aarch64_sysroot.sh), libc from the compiler.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)

get_filename_component(SLUICE_SYSROOT "${CMAKE_CURRENT_LIST_DIR}/../build/aarch64-sysroot/root"
                       ABSOLUTE)
set(ENV{PKG_CONFIG_LIBDIR} "${SLUICE_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig")
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${SLUICE_SYSROOT}")
set(CMAKE_FIND_ROOT_PATH "${SLUICE_SYSROOT}")
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)

# pkg-config leaves /usr/include out even where it lies in a sysroot.
set(CMAKE_C_FLAGS_INIT "-isystem ${SLUICE_SYSROOT}/usr/include")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-L${SLUICE_SYSROOT}/usr/lib/aarch64-linux-gnu")

set(CMAKE_CROSSCOMPILING_EMULATOR
    "qemu-aarch64;-L;/usr/aarch64-linux-gnu;-E;LD_LIBRARY_PATH=${SLUICE_SYSROOT}/usr/lib/aarch64-linux-gnu")
