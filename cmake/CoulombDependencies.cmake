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
coulomb_pkg(rhonabwy librhonabwy)
coulomb_pkg(gnutls gnutls)
coulomb_pkg(curl libcurl)
if(COULOMB_TESTS)
    coulomb_pkg(cmocka cmocka)
endif()

# libpg_query has no pkg-config file. Its header of the tree needs protobuf-c's.
find_path(PG_QUERY_INCLUDE_DIR pg_query/pg_query.pb-c.h REQUIRED)
find_library(PG_QUERY_LIBRARY pg_query REQUIRED)
find_path(PROTOBUF_C_INCLUDE_DIR protobuf-c/protobuf-c.h REQUIRED)
add_library(coulomb_pg_query INTERFACE)
target_include_directories(coulomb_pg_query SYSTEM INTERFACE
    "${PG_QUERY_INCLUDE_DIR}" "${PROTOBUF_C_INCLUDE_DIR}")
target_link_libraries(coulomb_pg_query INTERFACE "${PG_QUERY_LIBRARY}")
add_library(coulomb::pg_query ALIAS coulomb_pg_query)
