# Instruction-set flags exist only on files under src/kern. A kernel file for another architecture
# is left out here; a file for an instruction set above the baseline gets its flags here. Kernels
# are optimised for vectors in every build type but Debug; -fno-trapping-math lets a compiler turn
# comparisons into vectors and changes no result.
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(FILTER SLUICE_SOURCES EXCLUDE REGEX "/kern/x86/")
endif()
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  list(FILTER SLUICE_SOURCES EXCLUDE REGEX "/kern/arm/")
endif()
foreach(source IN LISTS SLUICE_SOURCES)
  if(source MATCHES "/src/kern/")
    set(kernel_options "$<$<NOT:$<CONFIG:Debug>>:-O3>" -fno-trapping-math)
    if(source MATCHES "/kern/x86/.*_avx2\\.c$")
      list(APPEND kernel_options -mavx2 -mfma -mf16c)
    endif()
    if(source MATCHES "/kern/x86/.*_avxvnni\\.c$")
      list(APPEND kernel_options -mavx2 -mfma -mf16c -mavxvnni)
    endif()
    if(source MATCHES "/kern/x86/.*_avx512(vnni)?\\.c$")
      list(APPEND kernel_options -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c
           -mprefer-vector-width=512)
    endif()
    if(source MATCHES "/kern/x86/.*_avx512vnni\\.c$")
      list(APPEND kernel_options -mavx512vnni)
    endif()
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${kernel_options}")
  endif()
endforeach()
