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
std::vector<Command> ActivationCommands();
std::vector<Command> VectorCommands();
std::vector<Command> FeatureCommands();
std::vector<Command> GenerateCommands();
std::vector<Command> JobCommands();
std::vector<Command> TourCommands();

// "SAE:FEATURE:OP[:VALUE[:UNIT]]" as an intervention.
//   errors  InvalidArgument  with the grammar
absl::StatusOr<v1::Intervention> ParseSteer(absl::string_view text);

// Follows a job to its end with a progress bar (none with --json).
//   errors  Aborted  the job failed or was cancelled; the message has its error
absl::StatusOr<v1::Job> WaitForJob(CommandContext& context, const std::string& job_id);

// Text and --no-bos, or --tokens, as an input.
absl::StatusOr<v1::TextInput> InputFromFlags(const Args& args, absl::string_view text_flag);

}  // namespace featurescope
