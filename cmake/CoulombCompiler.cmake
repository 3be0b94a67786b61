# Language level, warnings, sanitizers and hardening, all carried by one
# interface target that every module, test and executable links.

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

add_library(coulomb_options INTERFACE)
target_include_directories(coulomb_options INTERFACE
    "${CMAKE_SOURCE_DIR}/src" "${CMAKE_SOURCE_DIR}/include" "${CMAKE_BINARY_DIR}/generated")
# accept4, eventfd and friends are declared only with _GNU_SOURCE.
target_compile_definitions(coulomb_options INTERFACE _GNU_SOURCE)

# The one place of the version is project(VERSION …).
configure_file("${CMAKE_CURRENT_LIST_DIR}/coulomb_version.h.in"
    "${CMAKE_BINARY_DIR}/generated/coulomb_version.h")

target_compile_options(coulomb_options INTERFACE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes
    -Wmissing-prototypes -Wvla -Wformat=2 -Wcast-qual -Wundef -Wswitch-enum
    -fno-strict-aliasing -fstack-protector-strong)
if(COULOMB_WERROR)
    target_compile_options(coulomb_options INTERFACE -Werror)
endif()

if(COULOMB_SANITIZE)
    target_compile_options(coulomb_options INTERFACE
        -fsanitize=${COULOMB_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(coulomb_options INTERFACE -fsanitize=${COULOMB_SANITIZE})
    target_compile_definitions(coulomb_options INTERFACE COULOMB_SANITIZED=1)
endif()

if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT COULOMB_SANITIZE)
    target_compile_definitions(coulomb_options INTERFACE _FORTIFY_SOURCE=2)
    set(CMAKE_POSITION_INDEPENDENT_CODE ON)
    target_link_options(coulomb_options INTERFACE -pie -Wl,-z,relro,-z,now)
endif()
