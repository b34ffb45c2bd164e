// The commands, by the file that has them. main.cc joins them into one table.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "client/cli/args.h"
#include "client/cli/output.h"
#include "client/cli/terminal.h"
#include "client/client.h"
#include "featurescope/v1/explore.pb.h"
#include "featurescope/v1/jobs.pb.h"

namespace featurescope {

std::vector<Command> CatalogCommands();
std::vector<Command> SaeCommands();
std::vector<Command> ImportCommands();
std::vector<Command> ActivationCommands();
std::vector<Command> VectorCommands();
std::vector<Command> FeatureCommands();
std::vector<Command> GenerateCommands();
std::vector<Command> TrainCommands();
std::vector<Command> EvaluationCommands();
std::vector<Command> CacheCommands();
std::vector<Command> JobCommands();
std::vector<Command> TourCommands();

// Paths are the server's; relative ones are taken from here, which is right when both are on one
// machine. A path that does not exist yet is completed, too.
std::string AbsolutePath(const std::string& path);

// The message as JSON with --json, else the text.
void PrintAnswer(CommandContext& context, const google::protobuf::Message& message,
                 absl::string_view text);
// "fits", "is doubtful", "does not fit": what CheckSae found of an SAE.
std::string VerdictWords(v1::CheckSaeResponse::Verdict verdict);

// A model in a line, with its warnings below.
std::string ModelText(const v1::Model& model);

// What was recognised in an SAE's files, as a table, with its warnings below.
std::string SaeTable(const Terminal& terminal, const v1::Sae& sae);

// "SAE:FEATURE:OP[:VALUE[:UNIT]]" as an intervention.
//   errors  InvalidArgument  with the grammar
absl::StatusOr<v1::Intervention> ParseSteer(absl::string_view text);

// Follows a job to its end with a progress bar (none with --json).
//   errors  Aborted  the job failed or was cancelled; the message has its error
absl::StatusOr<v1::Job> WaitForJob(CommandContext& context, const std::string& job_id);

// Text and --no-bos, or --tokens, as an input.
absl::StatusOr<v1::TextInput> InputFromFlags(const Args& args, absl::string_view text_flag);

}  // namespace featurescope
