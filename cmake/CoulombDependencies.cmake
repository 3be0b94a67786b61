# External libraries, all found through pkg-config, each behind one
# coulomb::<name> target. Their headers count as system headers.

find_package(PkgConfig REQUIRED)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
add_library(coulomb::threads ALIAS Threads::Threads)

# coulomb_pkg(<name> <pkg-config module>…)
function(coulomb_pkg name)
    pkg_check_modules(${name} REQUIRED IMPORTED_TARGET ${ARGN})
    add_library(coulomb::${name} ALIAS PkgConfig::${name})
endfunction()

coulomb_pkg(libpq libpq)
coulomb_pkg(libevent libevent_core libevent_extra libevent_pthreads)
coulomb_pkg(sqlite3 sqlite3)
coulomb_pkg(xxhash libxxhash)
coulomb_pkg(jansson jansson)
if(COULOMB_TESTS)
    coulomb_pkg(cmocka cmocka)
endif()
