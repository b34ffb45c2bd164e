// The import job: downloads a model or an SAE from the hub and adds it to the catalog.
#pragma once

#include "absl/status/status.h"
#include "server/catalog/catalog.h"
#include "server/engine/run_context.h"
#include "server/hub/hub_options.h"
#include "server/jobs/job_report.h"
#include "server/jobs/spec_json.h"

namespace featurescope {

// What can be said of the job before anything is downloaded: its id, source and patterns.
//   errors  InvalidArgument  naming the field; NotFound: no such form of a known release's id
absl::Status CheckImport(const ImportJob& job);

// The id of the new entry where the job names none: made from its source.
std::string DefaultImportId(const ImportJob& job);

// Downloads (what the hub's cache has already is used) and adds. An interrupted download continues
// where it stopped when the job runs again.
//   errors  those of PullModel, PullSae, Catalog::AddModel and Catalog::AddSae
absl::Status RunImport(Catalog* catalog, const HubOptions& hub, const ImportJob& job,
                       const CancelToken& cancel, JobReport* report);

}  // namespace featurescope
