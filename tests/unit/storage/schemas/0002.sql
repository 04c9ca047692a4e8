PRAGMA application_id=1399157069;
BEGIN TRANSACTION;
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE artifacts (
	id VARCHAR NOT NULL, 
	run_number INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	path TEXT NOT NULL, 
	size_bytes INTEGER NOT NULL, 
	sha256 VARCHAR NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_artifacts PRIMARY KEY (id), 
	CONSTRAINT uq_artifacts_run_number_path UNIQUE (run_number, path), 
	CONSTRAINT fk_artifacts_run_number_runs FOREIGN KEY(run_number) REFERENCES runs (number) ON DELETE CASCADE
);
INSERT INTO "artifacts" VALUES('iailiopbxfkl5r3t',1,'adapter_zip','policy.zip',3,'4a70fe9aa6436e02c2dea340fbd1e352e4ef2d8ce6ca52ad25d4b95471fc8bf2',1000.0);
CREATE TABLE datasets (
	id VARCHAR NOT NULL, 
	name TEXT NOT NULL, 
	num_rows INTEGER NOT NULL, 
	num_refused INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	summary_json TEXT NOT NULL, 
	CONSTRAINT pk_datasets PRIMARY KEY (id)
);
INSERT INTO "datasets" VALUES('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','sums',10,1,1000.0,'{"codes": {}}');
CREATE TABLE "device_slots" (
	name VARCHAR NOT NULL, 
	position INTEGER NOT NULL, 
	is_retired BOOLEAN NOT NULL, 
	run_number INTEGER, 
	CONSTRAINT pk_device_slots PRIMARY KEY (name), 
	CONSTRAINT fk_device_slots_run_number_runs FOREIGN KEY(run_number) REFERENCES runs (number) ON DELETE RESTRICT
);
INSERT INTO "device_slots" VALUES('cpu:0',0,0,1);
CREATE TABLE events (
	number INTEGER NOT NULL, 
	run_number INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	level VARCHAR NOT NULL, 
	code VARCHAR NOT NULL, 
	message TEXT NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (number), 
	CONSTRAINT fk_events_run_number_runs FOREIGN KEY(run_number) REFERENCES runs (number) ON DELETE CASCADE
);
INSERT INTO "events" VALUES(1,1,1000.0,'info','start','it''s on');
CREATE TABLE metric_points (
	series_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	value FLOAT, 
	seq INTEGER NOT NULL, 
	CONSTRAINT pk_metric_points PRIMARY KEY (series_id, step), 
	CONSTRAINT fk_metric_points_series_id_metric_series FOREIGN KEY(series_id) REFERENCES metric_series (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "metric_points" VALUES(1,0,0.0,1);
INSERT INTO "metric_points" VALUES(1,1,0.5,2);
INSERT INTO "metric_points" VALUES(1,2,NULL,3);
INSERT INTO "metric_points" VALUES(1,3,1.5,4);
CREATE TABLE metric_series (
	id INTEGER NOT NULL, 
	run_number INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	CONSTRAINT pk_metric_series PRIMARY KEY (id), 
	CONSTRAINT uq_metric_series_run_number_name UNIQUE (run_number, name), 
	CONSTRAINT fk_metric_series_run_number_runs FOREIGN KEY(run_number) REFERENCES runs (number) ON DELETE CASCADE
);
INSERT INTO "metric_series" VALUES(1,1,'train/loss');
CREATE TABLE runs (
	number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id VARCHAR NOT NULL, 
	name TEXT NOT NULL, 
	config_json TEXT NOT NULL, 
	objective TEXT NOT NULL, 
	divergence TEXT NOT NULL, 
	base_model TEXT NOT NULL, 
	dataset_id VARCHAR NOT NULL, 
	seed INTEGER NOT NULL, 
	num_steps INTEGER NOT NULL, 
	device VARCHAR NOT NULL, 
	parent_id VARCHAR, 
	"group" TEXT NOT NULL, 
	status VARCHAR NOT NULL, 
	control VARCHAR NOT NULL, 
	phase TEXT NOT NULL, 
	step INTEGER NOT NULL, 
	steps_per_second FLOAT, 
	attempt INTEGER NOT NULL, 
	num_crashes INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	queued_at FLOAT NOT NULL, 
	started_at FLOAT, 
	ended_at FLOAT, 
	alive_at FLOAT, 
	progress_at FLOAT, 
	lease_until FLOAT, 
	runner TEXT NOT NULL, 
	error_kind TEXT NOT NULL, 
	error_message TEXT NOT NULL, 
	peak_memory_bytes INTEGER, 
	deleted_at FLOAT, 
	metric_seq INTEGER NOT NULL, 
	metric_reset_seq INTEGER NOT NULL, 
	CONSTRAINT ck_runs_status CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled')), 
	CONSTRAINT ck_runs_control CHECK (control IN ('none', 'stop', 'stop_and_save', 'kill')), 
	CONSTRAINT uq_runs_id UNIQUE (id), 
	CONSTRAINT fk_runs_dataset_id_datasets FOREIGN KEY(dataset_id) REFERENCES datasets (id) ON DELETE RESTRICT, 
	CONSTRAINT fk_runs_parent_id_runs FOREIGN KEY(parent_id) REFERENCES runs (id) ON DELETE SET NULL
);
INSERT INTO "runs" VALUES(1,'parentparentpare','first','{}','sft','','byte-llama-small','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',3,100,'auto',NULL,'','running','none','',7,2.5,1,0,1000.0,1000.0,1000.0,NULL,NULL,1000.0,1060.0,'me','','',NULL,NULL,4,0);
INSERT INTO "runs" VALUES(2,'z2reixnxqygei3gu','child','{}','sft','','byte-llama-small','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',4,100,'auto','parentparentpare','','queued','none','',0,NULL,0,0,1000.0,1000.0,NULL,NULL,NULL,NULL,NULL,'','','',NULL,NULL,0,0);
CREATE TABLE samples (
	run_number INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	"index" INTEGER NOT NULL, 
	payload_json TEXT NOT NULL, 
	CONSTRAINT pk_samples PRIMARY KEY (run_number, step, "index"), 
	CONSTRAINT fk_samples_run_number_runs FOREIGN KEY(run_number) REFERENCES runs (number) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "samples" VALUES(1,3,0,'{"text": "579"}');
CREATE TABLE settings (
	"key" VARCHAR NOT NULL, 
	value_json TEXT NOT NULL, 
	CONSTRAINT pk_settings PRIMARY KEY ("key")
);
INSERT INTO "settings" VALUES('store/schema_created','"0001"');
CREATE TABLE task_outputs (
	task_number INTEGER NOT NULL, 
	seq INTEGER NOT NULL, 
	payload_json TEXT NOT NULL, 
	CONSTRAINT pk_task_outputs PRIMARY KEY (task_number, seq), 
	CONSTRAINT fk_task_outputs_task_number_tasks FOREIGN KEY(task_number) REFERENCES tasks (number) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "task_outputs" VALUES(1,1,'one');
CREATE TABLE tasks (
	number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	payload_json TEXT NOT NULL, 
	status VARCHAR NOT NULL, 
	worker TEXT NOT NULL, 
	num_starts INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	started_at FLOAT, 
	ended_at FLOAT, 
	error_message TEXT NOT NULL, 
	is_cancel_requested BOOLEAN NOT NULL, 
	output_seq INTEGER NOT NULL, 
	CONSTRAINT ck_tasks_status CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled')), 
	CONSTRAINT uq_tasks_id UNIQUE (id)
);
INSERT INTO "tasks" VALUES(1,'5jznulmbt62fggoi','generate','{}','running','lane',1,1000.0,1000.0,NULL,'',0,1);
CREATE INDEX ix_tasks_status ON tasks (status);
CREATE INDEX ix_runs_dataset_id ON runs (dataset_id);
CREATE INDEX ix_runs_parent_id ON runs (parent_id);
CREATE INDEX ix_runs_status_queued_at ON runs (status, queued_at);
CREATE INDEX ix_events_run_number ON events (run_number);
CREATE INDEX ix_metric_points_series_id_seq ON metric_points (series_id, seq);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('runs',2);
INSERT INTO "sqlite_sequence" VALUES('tasks',1);
COMMIT;
