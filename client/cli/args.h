// The command line's grammar as data: nouns, verbs, positionals and flags, parsed and explained.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace featurescope {

struct Flag {
  std::string name;        // without the dashes
  std::string value_name;  // empty: a switch
  std::string help;
  bool required = false;
  bool repeated = false;
};

struct Positional {
  std::string name;
  bool repeated = false;  // one or more; the last positional only
};

class Args;
struct Terminal;
class Client;

// What a command works with.
struct CommandContext {
  Client& client;
  Terminal& terminal;
  bool json = false;  // machine-readable output on standard output, nothing else there
};

struct Command {
  std::string noun;
  std::string verb;  // empty for commands of one word
  std::string summary;
  std::vector<Positional> positionals;
  std::vector<Flag> flags;
  std::function<absl::Status(const Args&, CommandContext&)> run;

  std::string name() const { return verb.empty() ? noun : noun + " " + verb; }
  std::string Usage() const;  // several lines
};

// The parsed arguments of one command.
class Args {
 public:
  // errors  InvalidArgument  unknown, missing or doubled arguments
  static absl::StatusOr<Args> Parse(const Command& command, const std::vector<std::string>& words);

  bool Has(absl::string_view flag) const { return flags_.contains(std::string(flag)); }
  // The flag's value; `otherwise` when it was not given.
  std::string Get(absl::string_view flag, absl::string_view otherwise = "") const;
  const std::vector<std::string>& All(absl::string_view flag) const;
  // errors  InvalidArgument  not a number, or out of range
  absl::StatusOr<double> Number(absl::string_view flag, double otherwise) const;
  absl::StatusOr<uint64_t> Integer(absl::string_view flag, uint64_t otherwise,
                                   uint64_t max = UINT32_MAX) const;
  // The i-th positional word. REQUIRES: the command has it.
  const std::string& at(size_t i) const { return positionals_[i]; }
  const std::vector<std::string>& positionals() const { return positionals_; }

 private:
  std::map<std::string, std::vector<std::string>> flags_;
  std::vector<std::string> positionals_;
};

// "1,2,3" as numbers.
absl::StatusOr<std::vector<uint32_t>> ParseIds(absl::string_view text);

}  // namespace featurescope
