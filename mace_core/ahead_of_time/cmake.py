"""How CMake finds a library: `find_package(NAME CONFIG)` with the folder of the build as a prefix."""

from __future__ import annotations

from pathlib import Path

_TEXT = """\
# find_package({name} CONFIG REQUIRED PATHS <this folder's root> NO_CMAKE_FIND_ROOT_PATH)
#
# Gives the targets mace::{name} (static) and, where it was linked, mace::{name}_shared. The library is that of the
# target MACE_TARGET (arm64-v8a, riscv64, ...); if it is not set, of the processor that CMake builds for.
# Where its weights are in a file, {name}_WEIGHTS is its path: install it with the program.
# {made_by} wrote this file.
get_filename_component(_mace_root "${{CMAKE_CURRENT_LIST_DIR}}/../../.." ABSOLUTE)

if(MACE_TARGET)
  set(_mace_targets "${{MACE_TARGET}}")
elseif(ANDROID_ABI STREQUAL "x86_64")
  set(_mace_targets x86-64)
elseif(ANDROID_ABI)
  set(_mace_targets "${{ANDROID_ABI}}")
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)")
  set(_mace_targets arm64-v8a)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^arm")
  set(_mace_targets armeabi-v7a)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^riscv64")
  set(_mace_targets riscv64)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)")
  set(_mace_targets x86-64)
else()
  set(_mace_targets "")
endif()
if(NOT CMAKE_CROSSCOMPILING AND NOT MACE_TARGET)
  list(INSERT _mace_targets 0 host)
endif()

set(_mace_folder "")
foreach(_mace_name IN LISTS _mace_targets)
  if(NOT _mace_folder AND EXISTS "${{_mace_root}}/lib/${{_mace_name}}/lib{name}.a")
    set(_mace_folder "${{_mace_root}}/lib/${{_mace_name}}")
  endif()
endforeach()

if(NOT _mace_folder)
  file(GLOB _mace_there RELATIVE "${{_mace_root}}/lib" "${{_mace_root}}/lib/*/lib{name}.a")
  set({name}_FOUND FALSE)
  set({name}_NOT_FOUND_MESSAGE "lib{name}.a was not built for ${{_mace_targets}} (there is ${{_mace_there}}); run \\
mace compile --target, or set MACE_TARGET")
else()
  if(EXISTS "${{_mace_folder}}/{name}.weights")
    set({name}_WEIGHTS "${{_mace_folder}}/{name}.weights")
  endif()
  include(CMakeFindDependencyMacro)
  find_dependency(Threads)
  foreach(_mace_kind IN ITEMS static shared)
    set(_mace_target mace::{name})
    set(_mace_file "${{_mace_folder}}/lib{name}.a")
    if(_mace_kind STREQUAL "shared")
      set(_mace_target mace::{name}_shared)
      set(_mace_file "${{_mace_folder}}/lib{name}.so")
    endif()
    string(TOUPPER "${{_mace_kind}}" _mace_kind)
    if(EXISTS "${{_mace_file}}" AND NOT TARGET ${{_mace_target}})
      add_library(${{_mace_target}} ${{_mace_kind}} IMPORTED)
      set_target_properties(${{_mace_target}} PROPERTIES IMPORTED_LOCATION "${{_mace_file}}")
      target_include_directories(${{_mace_target}} INTERFACE "${{_mace_root}}/include")
      target_link_libraries(${{_mace_target}} INTERFACE Threads::Threads m)
    endif()
  endforeach()
endif()
"""


def cmake_path(name: str) -> Path:
    """Where the file belongs in the folder of a build."""
    return Path("lib/cmake") / name / f"{name}Config.cmake"


def cmake_text(name: str, made_by: str) -> str:
    """The file; it serves all targets whose libraries are in the folder."""
    return _TEXT.format(name=name, made_by=made_by)
