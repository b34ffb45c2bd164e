// One SQLite connection: prepared statements, transactions, migrations, errors with file and SQL.
//
// The rules of this folder: a file has one connection that writes, and only that one checkpoints;
// readers cannot write; nothing is mapped into memory. Not thread-safe: guard it, or pool it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

struct sqlite3;
struct sqlite3_stmt;

namespace featurescope {

class Database;

// One use of a prepared statement: bind, step, read columns. It is reset, and free for its next
// use, on destruction. Parameters count from 1, columns from 0, as in SQLite.
//
// Binding remembers the first error and Step() returns it.
class Statement {
 public:
  Statement(Statement&& other) noexcept;
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement();

  Statement& Bind(int index, int64_t value);
  Statement& Bind(int index, double value);
  Statement& BindText(int index, absl::string_view value);
  // The bytes must stay until the statement is reset or destroyed.
  Statement& BindBlob(int index, absl::string_view value);
  Statement& BindNull(int index);

  // True: a row is there. False: done.
  absl::StatusOr<bool> Step();
  // For statements that return no rows.
  absl::Status Run();
  // Ready to be bound and run again.
  void Reset();

  int64_t Int(int column) const;
  double Double(int column) const;
  std::string Text(int column) const;
  // Valid until the next Step, Reset or destruction.
  absl::string_view Blob(int column) const;
  bool IsNull(int column) const;

 private:
  friend class Database;
  Statement(Database* database, sqlite3_stmt* statement)
      : database_(database), statement_(statement) {}
  Statement& Note(int code);

  Database* database_;
  sqlite3_stmt* statement_;
  int bind_error_ = 0;
};

enum class OpenMode {
  // Creates the file where it is missing. WAL, synchronous=FULL; the only checkpointer.
  kWriter,
  // Cannot write, never checkpoints.
  kReader,
  // A new file for bulk writing: no journal, no syncs. Refuses a file that exists.
  kBulkWriter,
  // A file that nobody will ever change: no locks at all.
  kImmutable,
};

// One change of the schema. Number n (from 1) brings user_version from n - 1 to n.
struct Migration {
  const char* sql;
};

class Database {
 public:
  //   errors  NotFound            kReader, kImmutable: no such file
  //           PermissionDenied    the file or its folder cannot be read or written
  //           DataLoss            no SQLite database, or a damaged one
  //           ResourceExhausted   the disk is full
  static absl::StatusOr<std::unique_ptr<Database>> Open(const std::string& path, OpenMode mode);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // Compiled once and kept; at most one Statement of the same text may live at a time.
  absl::StatusOr<Statement> Prepare(absl::string_view sql);
  // Runs one or more statements that take no parameters.
  absl::Status Execute(const std::string& sql);
  // The first column of the first row. NotFound when there is no row.
  absl::StatusOr<int64_t> QueryInt(absl::string_view sql);

  // Brings the schema up to the last of `steps`, each in a transaction of its own.
  //   errors  FailedPrecondition  the file was written by a newer version, or is no file of this
  //                               application; it is left as it is
  absl::Status Migrate(absl::Span<const Migration> steps, int32_t application_id);

  // PRAGMA quick_check. DataLoss with what it found.
  absl::Status QuickCheck();

  // Rows changed by the last INSERT, UPDATE or DELETE.
  int64_t changes() const;
  const std::string& path() const { return path_; }

 private:
  friend class Statement;
  Database(std::string path, sqlite3* db) : path_(std::move(path)), db_(db) {}
  // The status of the last failed call, which returned `code`, while doing `doing`.
  absl::Status Error(int code, absl::string_view doing) const;

  std::string path_;
  sqlite3* db_;
  absl::flat_hash_map<std::string, sqlite3_stmt*> statements_;
};

// BEGIN IMMEDIATE; rolled back on destruction unless committed.
class Transaction {
 public:
  static absl::StatusOr<Transaction> Begin(Database* database);
  Transaction(Transaction&& other) noexcept : database_(other.database_) {
    other.database_ = nullptr;
  }
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  ~Transaction();

  // REQUIRES: called at most once, last.
  absl::Status Commit();

 private:
  explicit Transaction(Database* database) : database_(database) {}
  Database* database_;
};

// As the library says it, e.g. "3.40.1".
std::string SqliteVersion();

}  // namespace featurescope
