# Cross build for macOS with `zig cc`, on a machine that is no Mac: it shows that everything compiles
# and links. Compiler, headers and libraries come from build/macos-sysroot (tools/macos_sysroot.sh).
# The preset sets CMAKE_SYSTEM_PROCESSOR.
set(CMAKE_SYSTEM_NAME Darwin)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES CMAKE_SYSTEM_PROCESSOR)

get_filename_component(SLUICE_ROOT "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)
set(SLUICE_SYSROOT "${SLUICE_ROOT}/build/macos-sysroot")
set(CMAKE_C_COMPILER "${SLUICE_ROOT}/tools/zig_cc.sh")
set(CMAKE_C_COMPILER_TARGET "${CMAKE_SYSTEM_PROCESSOR}-macos.11.0")
set(CMAKE_AR "${SLUICE_SYSROOT}/bin/zig")
set(CMAKE_C_ARCHIVE_CREATE "<CMAKE_AR> ar qcs <TARGET> <LINK_FLAGS> <OBJECTS>")
set(CMAKE_C_ARCHIVE_FINISH "")

set(ENV{PKG_CONFIG_LIBDIR} "${SLUICE_SYSROOT}/lib/pkgconfig")
set(CMAKE_FIND_ROOT_PATH "${SLUICE_SYSROOT}")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
