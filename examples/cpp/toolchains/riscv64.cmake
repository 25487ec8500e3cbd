# Debian's cross compiler for riscv64: apt-get install g++-riscv64-linux-gnu
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR riscv64)
set(CMAKE_CXX_COMPILER riscv64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH /usr/riscv64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
# `ctest` and `add_custom_command` run programs by an emulator, which finds the libraries of the target there.
find_program(MACE_QEMU NAMES qemu-riscv64-static qemu-riscv64)
if(MACE_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${MACE_QEMU}" -L /usr/riscv64-linux-gnu)
endif()
