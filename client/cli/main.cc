// featurescope: the command line.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"

namespace featurescope {
namespace {

constexpr char kDefaultServer[] = "127.0.0.1:50051";
constexpr int kUsageError = 2;
constexpr int kFailure = 1;

std::vector<Command> AllCommands() {
  std::vector<Command> all;
  for (const auto& group :
       {CatalogCommands(), SaeCommands(), ImportCommands(), CacheCommands(), TrainCommands(),
        EvaluationCommands(), JobCommands(), FeatureCommands(), ActivationCommands(),
        VectorCommands(), GenerateCommands(), TourCommands()}) {
    all.insert(all.end(), group.begin(), group.end());
  }
  return all;
}

void PrintUsage(const std::vector<Command>& commands) {
  size_t width = 0;
  for (const Command& command : commands) width = std::max(width, command.name().size());
  std::string text = "usage: featurescope COMMAND [--server HOST:PORT] [--json]\n\n";
  for (const Command& command : commands) {
    const std::string name = command.name();
    absl::StrAppend(&text, "  ", name, std::string(width + 2 - name.size(), ' '), command.summary,
                    "\n");
  }
  absl::StrAppend(&text,
                  "\nfeaturescope COMMAND --help explains one command. The server is "
                  "FEATURESCOPE_SERVER, else ",
                  kDefaultServer, ".\n");
  Print(text);
}

// The command that the first words name, and how many words that takes; nullptr when there is none.
const Command* FindCommand(const std::vector<Command>& commands,
                           const std::vector<std::string>& words, size_t* n_words) {
  for (const Command& command : commands) {
    *n_words = command.verb.empty() ? 1 : 2;
    if (words.size() >= *n_words && words[0] == command.noun &&
        (command.verb.empty() || words[1] == command.verb)) {
      return &command;
    }
  }
  return nullptr;
}

// Takes `name` and, if it has one, its value out of `words`.
bool TakeSwitch(std::vector<std::string>& words, const std::string& name) {
  const auto found = std::find(words.begin(), words.end(), name);
  if (found == words.end()) return false;
  words.erase(found);
  return true;
}

std::string TakeValue(std::vector<std::string>& words, const std::string& name,
                      const std::string& otherwise) {
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == name && i + 1 < words.size()) {
      const std::string value = words[i + 1];
      words.erase(words.begin() + static_cast<ptrdiff_t>(i),
                  words.begin() + static_cast<ptrdiff_t>(i) + 2);
      return value;
    }
    if (absl::StartsWith(words[i], name + "=")) {
      const std::string value = words[i].substr(name.size() + 1);
      words.erase(words.begin() + static_cast<ptrdiff_t>(i));
      return value;
    }
  }
  return otherwise;
}

int UsageError(absl::string_view message) {
  fprintf(stderr, "featurescope: %s\n", std::string(message).c_str());
  return kUsageError;
}

int Run(std::vector<std::string> words) {
  const std::vector<Command> commands = AllCommands();
  const char* from_environment = getenv("FEATURESCOPE_SERVER");
  const std::string server =
      TakeValue(words, "--server", from_environment != nullptr ? from_environment : kDefaultServer);
  const bool json = TakeSwitch(words, "--json");
  const bool help = TakeSwitch(words, "--help") || TakeSwitch(words, "-h") || words.empty();

  size_t n_words = 0;
  const Command* command = FindCommand(commands, words, &n_words);
  if (command == nullptr) {
    if (help || words[0] == "help") {
      PrintUsage(commands);
      return 0;
    }
    std::string known;
    for (const Command& other : commands) {
      if (other.noun == words[0]) absl::StrAppend(&known, known.empty() ? "" : ", ", other.name());
    }
    return UsageError(
        known.empty() ? absl::StrCat("unknown command \"", words[0], "\"; see featurescope --help")
                      : absl::StrCat("unknown command; there are: ", known));
  }
  if (help) {
    Print(absl::StrCat("usage: ", command->Usage()));
    return 0;
  }
  words.erase(words.begin(), words.begin() + static_cast<ptrdiff_t>(n_words));
  const absl::StatusOr<Args> args = Args::Parse(*command, words);
  if (!args.ok()) {
    return UsageError(
        absl::StrCat(args.status().message(), "; see featurescope ", command->name(), " --help"));
  }
  Client client(server);
  Terminal terminal = Terminal::Detect();
  CommandContext context{client, terminal, json};
  const absl::Status status = command->run(*args, context);
  if (status.ok()) return 0;
  fprintf(stderr, "featurescope: %s\n", std::string(status.message()).c_str());
  return kFailure;
}

}  // namespace
}  // namespace featurescope

int main(int argc, char** argv) { return featurescope::Run({argv + 1, argv + argc}); }
