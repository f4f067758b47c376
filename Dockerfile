# The reference project: one image for web, worker, beat and Flower; docker-compose.yml says which is which.
FROM python:3.11-slim
RUN useradd --uid 10001 --create-home app \
 && mkdir -p /srv/site /srv/var/media \
 && chown -R app:app /srv
WORKDIR /srv/site
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt
COPY pyproject.toml README.md LICENSE manage.py Procfile ./
COPY replicator replicator
COPY project project
ENV VAR=/srv/var PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER app
# Files that WhiteNoise serves; the key is for this step only.
RUN SECRET_KEY=not-kept DEBUG=0 python manage.py collectstatic --noinput --verbosity 0
EXPOSE 8000 5555
CMD ["gunicorn", "project.wsgi", "--bind", "0.0.0.0:8000", "--workers", "2", "--threads", "4"]
