# Debian's cross compiler for arm64-v8a: apt-get install g++-aarch64-linux-gnu
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
# `ctest` and `add_custom_command` run programs by an emulator, which finds the libraries of the target there.
find_program(MACE_QEMU NAMES qemu-aarch64-static qemu-aarch64)
if(MACE_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${MACE_QEMU}" -L /usr/aarch64-linux-gnu)
endif()
