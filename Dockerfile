# The reference project: one image for web, worker, beat and Flower; docker-compose.yml says which is which.
FROM python:3.11-slim
# A new volume takes its owner from the folder that it is mounted on.
RUN useradd --uid 10001 --create-home app \
 && mkdir -p /srv/site /srv/var/media /srv/var/mogilefs \
 && chown -R app:app /srv/var
WORKDIR /srv/site
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt
COPY manage.py ./
COPY replicator replicator
COPY project project
ENV VAR=/srv/var PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER app
# Files that WhiteNoise serves; the key is for this step only.
RUN SECRET_KEY=not-kept DEBUG=0 python manage.py collectstatic --noinput --verbosity 0
EXPOSE 8000 5555
# No control socket: it would be in the home folder, which nobody may write. Signs of life are not for a disk.
CMD ["gunicorn", "project.wsgi", "--bind", "0.0.0.0:8000", "--workers", "2", "--threads", "4", "--no-control-socket", "--worker-tmp-dir", "/dev/shm"]
