# Debian's cross compiler for armeabi-v7a: apt-get install g++-arm-linux-gnueabihf
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR armv7)
set(CMAKE_CXX_COMPILER arm-linux-gnueabihf-g++)
set(CMAKE_FIND_ROOT_PATH /usr/arm-linux-gnueabihf)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
# `ctest` and `add_custom_command` run programs by an emulator, which finds the libraries of the target there.
find_program(MACE_QEMU NAMES qemu-arm-static qemu-arm)
if(MACE_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${MACE_QEMU}" -L /usr/arm-linux-gnueabihf)
endif()
